"""The models that are known: what each answers with, and where. Any other model works by what its answers say."""

from typing import NamedTuple

_FOUNDRY, _COHERE = "/models", "/providers/cohere/v2"


class KnownModel(NamedTuple):
    """A model as its maker and Azure publish it. The first of ``dimensions`` is its default."""

    name: str
    dimensions: tuple[int, ...]
    paths: tuple[str, ...]
    """The ends of ``FOUNDRY_ENDPOINT`` on which it answers."""


# Cohere, "Embed" model cards and "Embed API (v2)"; Azure AI Foundry's model catalogue (November 2026).
MODELS = (
    KnownModel("Cohere-embed-v3-english", (1024,), (_FOUNDRY,)),
    KnownModel("Cohere-embed-v3-multilingual", (1024,), (_FOUNDRY,)),
    KnownModel("embed-v-4-0", (1536, 256, 512, 1024), (_FOUNDRY, _COHERE)),
    KnownModel("Cohere-Embed-V5-Pro", (2048, 256, 512, 768, 1024, 1536), (_COHERE,)),
    KnownModel("Cohere-Embed-V5-Fast", (2048, 256, 512, 768, 1024, 1536), (_COHERE,)),
)


def known(deployment: str) -> KnownModel | None:
    """The model of a deployment that has its model's name, whatever the case; ``None`` for any other name."""
    return next((model for model in MODELS if model.name.lower() == deployment.lower()), None)
