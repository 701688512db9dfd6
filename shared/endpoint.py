"""The model's own routes, served by us: its requests into queries, and the answers in its own shape."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pybase64

from shared.errors import QueryError
from shared.foundry import ModelOptions
from shared.queries import Answer, Queries, Query, QueryOptions, QueryReport
from shared.records import EncodingFormat
from shared.settings import Settings
from shared.wire import (
    Embedding,
    EmbeddingsAnswer,
    EmbeddingsOptions,
    ImageEmbeddingsRequest,
    ImageInput,
    TextEmbeddingsRequest,
    Usage,
)


@dataclass(frozen=True)
class Answered:
    """The body of an answer, and the blobs that hold its embeddings."""

    answer: EmbeddingsAnswer
    records: list[str]


class Endpoint:
    """Answers in the API's own format. Safe to call from many threads.

    Each method raises :class:`~shared.errors.QueryError` for a request that cannot be answered, before anything is
    charged, and :class:`~shared.errors.ModelError` where the model gives no answer.
    """

    def __init__(self, settings: Settings, queries: Queries) -> None:
        self._settings = settings
        self._queries = queries

    def images(self, request: ImageEmbeddingsRequest, fresh: bool, report: QueryReport) -> Answered:
        """Embed images, alone or each fused with a text, in order."""
        queries = _all(request.input, lambda index, item: _image_query(f"input[{index}].image", item))
        return self._answer(request, queries, fresh, report)

    def texts(self, request: TextEmbeddingsRequest, fresh: bool, report: QueryReport) -> Answered:
        """Embed texts, in order."""
        texts = [request.input] if isinstance(request.input, str) else request.input
        queries = [Query(f"input[{index}]", text=text) for index, text in enumerate(texts)]
        return self._answer(request, queries, fresh, report)

    def image(
        self, data: bytes, text: str | None, options: EmbeddingsOptions, fresh: bool, report: QueryReport
    ) -> Answered:
        """Embed the picture that is itself the body of a request."""
        if not data:
            raise QueryError("empty", "The body has no bytes; it must be the image.")
        return self._answer(options, [Query("body", data, (text or "").strip() or None)], fresh, report)

    def _answer(self, request: EmbeddingsOptions, queries: list[Query], fresh: bool, report: QueryReport) -> Answered:
        deployed = self._settings.foundry_model
        if request.model not in (None, deployed):
            message = f"Unknown model: {request.model[:100]}. This app serves {deployed}."
            raise QueryError("unknown_model", message, target="model")
        options = ModelOptions(
            input_type=request.input_type,
            dimensions=request.dimensions or self._settings.embedding_dimensions,
            encoding_format=request.encoding_format,
            extras=request.extras,
        )
        answers = self._queries.answer(queries, QueryOptions(options, fresh, _chosen(request)), report)
        data = [
            Embedding(index=index, embedding=_encode(answer.record.embedding, request.encoding_format))
            for index, answer in enumerate(answers)
        ]
        body = EmbeddingsAnswer(id=answers[0].record.id, model=deployed, data=data, usage=_usage(answers))
        return Answered(body, [answer.path for answer in answers if answer.path])


def decode_image(image: str, target: str) -> bytes:
    """The bytes of a data URL or of bare base64; raises :class:`QueryError`."""
    if image[:8].lower().startswith(("http://", "https://")):
        message = "Send the image itself as a data URL; links are not followed."
        raise QueryError("invalid_request", message, target=target)
    if image[:5].lower() == "data:":
        head, comma, image = image.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            message = "The data URL must be like data:image/png;base64,<data>."
            raise QueryError("invalid_request", message, target=target)
    try:
        data = pybase64.b64decode(image, validate=True)
    except ValueError as error:
        raise QueryError("invalid_request", f"The image is not valid base64: {error}.", target=target) from error
    if not data:
        raise QueryError("empty", "The image has no bytes.", target=target)
    return data


def _image_query(target: str, item: ImageInput) -> Query:
    return Query(target, decode_image(item.image, target), (item.text or "").strip() or None)


def _all[Item](items: list[Item], make: Callable[[int, Item], Query]) -> list[Query]:
    """A query of each item; raises one error that names every item at fault."""
    queries, refused = [], []
    for index, item in enumerate(items):
        try:
            queries.append(make(index, item))
        except QueryError as error:
            refused.append(error)
    if refused:
        raise QueryError.of_all(refused)
    return queries


def _chosen(request: EmbeddingsOptions) -> frozenset[str]:
    """The options that are not as they would be anyway."""
    usual = EmbeddingsOptions()
    names = ("input_type", "dimensions", "encoding_format")
    return frozenset(name for name in names if getattr(request, name) != getattr(usual, name))


def _usage(answers: list[Answer]) -> Usage:
    """What the calls that were really made have been charged; the same question twice is one call."""
    charged = {answer.record.id: answer.record for answer in answers if not answer.known}.values()
    return Usage(
        prompt_tokens=sum(record.prompt_tokens or 0 for record in charged),
        completion_tokens=0,
        total_tokens=sum(record.total_tokens or 0 for record in charged),
    )


def _encode(embedding: list[float], encoding: EncodingFormat) -> list[float] | str:
    """The vector as the request wants it: base64 is of little-endian float32, all but that and float are integers."""
    match encoding:
        case "float":
            return embedding
        case "base64":
            return pybase64.b64encode(struct.pack(f"<{len(embedding)}f", *embedding)).decode()
        case _:
            return [int(number) for number in embedding]
