"""The wire formats that the app may speak with the model: how each is asked, and how a model answers in it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WireFormat:
    """What differs between the formats, as far as a test sees it."""

    path: str
    """The end of ``FOUNDRY_ENDPOINT``."""
    settings: Mapping[str, str] = field(hash=False)
    """A model that has vectors of 1,024 numbers there."""
    image_route: str
    text_route: str
    """Where the model is asked, with the path."""
    input_types: Mapping[str, str] = field(hash=False)
    """How the model is told the input types of the app."""

    def vectors(self, *vectors: Sequence[object]) -> dict[str, Any]:
        """The body of a 200 with these vectors and nothing beside them."""
        if self is COHERE:
            return {"embeddings": {"float": vectors}}
        return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}

    def texts_in(self, body: bytes) -> list[str]:
        """What a request for texts asks for."""
        texts: list[str] = json.loads(body)["texts" if self is COHERE else "input"]
        return texts


FOUNDRY = WireFormat(
    path="/models",
    settings={"FOUNDRY_MODEL": "Cohere-embed-v3-english"},
    image_route="/models/images/embeddings",
    text_route="/models/embeddings",
    input_types={"text": "text", "query": "query", "document": "document"},
)
COHERE = WireFormat(
    path="/providers/cohere/v2",
    settings={"FOUNDRY_MODEL": "embed-v-4-0", "EMBEDDING_DIMENSIONS": "1024"},
    image_route="/providers/cohere/v2/embed",
    text_route="/providers/cohere/v2/embed",
    input_types={"text": "classification", "query": "search_query", "document": "search_document"},
)
WIRE_FORMATS = {"foundry": FOUNDRY, "cohere": COHERE}
