"""The models that the stand-in serves, and what each can do."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["foundry", "cohere"]


@dataclass(frozen=True)
class Model:
    """What one served model can do. The first of `lengths` is its default."""

    lengths: tuple[int, ...]
    images_max: int = 1
    pairs: bool = True
    input_types: tuple[str, ...] = ("text", "query", "document")
    encodings: tuple[str, ...] = ("float", "base64")
    strict: bool = False
    """Whether it refuses fields that only other models know. The others ignore them."""
    formats: tuple[Format, ...] = ("foundry",)
    """The formats that it answers on."""
    space: str = ""
    """The name that its vectors are made by, where models share a space; its own if empty."""


_INTEGERS = ("int8", "uint8", "binary", "ubinary")
_EMBED_5 = Model(
    lengths=(2048, 256, 512, 768, 1024, 1536),
    images_max=96,
    encodings=("float", "base64", *_INTEGERS),
    formats=("cohere",),
    space="Cohere-Embed-V5",
)

# Where the app finds each format, below the service's address. An app that may choose speaks the first.
PATHS: dict[Format, str] = {"foundry": "/models", "cohere": "/providers/cohere/v2"}

MODELS = {
    "Cohere-embed-v3-english": Model(lengths=(1024,)),
    "Cohere-embed-v3-multilingual": Model(lengths=(1024,)),
    "embed-v-4-0": Model(
        lengths=(1536, 256, 512, 1024),
        images_max=96,
        encodings=("float", "base64", *_INTEGERS),
        formats=("foundry", "cohere"),
    ),
    "Cohere-Embed-V5-Pro": _EMBED_5,
    "Cohere-Embed-V5-Fast": _EMBED_5,
    "plain-embed": Model(lengths=(512,), pairs=False, input_types=(), encodings=("float",), strict=True),
}
