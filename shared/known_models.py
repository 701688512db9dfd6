"""The models that are known: what each answers with, where, and at what price. Any other works by what it answers."""

from typing import NamedTuple

# The ends of ``FOUNDRY_ENDPOINT``; each is a wire format (shared/model).
FOUNDRY_PATH, COHERE_PATH = "/models", "/providers/cohere/v2"
# The media types of pictures that each of them takes: the API's documentation (README, "The API"), and Cohere's "Embed
# API (v2)".
_IMAGE_TYPES = {
    FOUNDRY_PATH: frozenset({"image/png"}),
    COHERE_PATH: frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"}),
}


class Price(NamedTuple):
    """US dollars for a million tokens, as the source listed it on that date."""

    dollars: float
    date: str
    source: str


class KnownModel(NamedTuple):
    """A model as its maker and Azure publish it. The first of ``dimensions`` is its default."""

    name: str
    dimensions: tuple[int, ...]
    paths: tuple[str, ...]
    """The ends of ``FOUNDRY_ENDPOINT`` on which it answers."""
    space: str
    """Models with the same one have vectors that may be compared."""
    price: Price


_EMBED_5_LENGTHS = (2048, 256, 512, 768, 1024, 1536)
# "Index with Pro and ask with Fast": Cohere's announcement of Embed 5.
_EMBED_5_SPACE = "Cohere-Embed-V5"
_OFFER = "https://azuremarketplace.microsoft.com/marketplace/apps/cohere.cohere-embed-v3-english-offer"
_EMBED_3_PRICE = Price(0.10, "2025-05", _OFFER)

# Cohere, "Embed" model cards and "Embed API (v2)"; Azure AI Foundry's model catalogue (November 2026).
MODELS = (
    KnownModel("Cohere-embed-v3-english", (1024,), (FOUNDRY_PATH,), "Cohere-embed-v3-english", _EMBED_3_PRICE),
    KnownModel(
        "Cohere-embed-v3-multilingual", (1024,), (FOUNDRY_PATH,), "Cohere-embed-v3-multilingual", _EMBED_3_PRICE
    ),
    KnownModel(
        "embed-v-4-0",
        (1536, 256, 512, 1024),
        (FOUNDRY_PATH, COHERE_PATH),
        "embed-v-4-0",
        Price(0.12, "2026-11", "https://cohere.com/pricing"),
    ),
    KnownModel(
        "Cohere-Embed-V5-Pro",
        _EMBED_5_LENGTHS,
        (COHERE_PATH,),
        _EMBED_5_SPACE,
        Price(0.12, "2026-11", "https://cohere.com/pricing"),
    ),
    KnownModel(
        "Cohere-Embed-V5-Fast",
        _EMBED_5_LENGTHS,
        (COHERE_PATH,),
        _EMBED_5_SPACE,
        Price(0.08, "2026-11", "https://cohere.com/pricing"),
    ),
)


def image_types(endpoint: str) -> frozenset[str]:
    """The media types of pictures that models take at this endpoint."""
    return _IMAGE_TYPES[COHERE_PATH if endpoint.endswith(COHERE_PATH) else FOUNDRY_PATH]


def known(deployment: str) -> KnownModel | None:
    """The model of a deployment that has its model's name, whatever the case; ``None`` for any other name."""
    return next((model for model in MODELS if model.name.lower() == deployment.lower()), None)
