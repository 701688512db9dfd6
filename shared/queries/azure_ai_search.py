"""Azure AI Search: this app as a custom skill of a skillset, and as the vectorizer of an index.

Both share one shape: "Custom Web API skill" and "Custom Web API vectorizer" in the reference of Azure AI Search.
"""

import itertools
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import unquote

import msgspec

from shared.errors import ModelMisconfigured, ModelUnavailable, PictureError, QueryError, StorageError
from shared.log import MESSAGE_LIMIT
from shared.model.wire_format import InputType, ModelOptions
from shared.parsing import split_path
from shared.queries.cache import Failure
from shared.queries.formats.data_urls import decode_image
from shared.queries.queries import (
    MAX_QUERIES,
    Answer,
    ImageSource,
    Outcome,
    Queries,
    Query,
    QueryOptions,
    QueryReport,
    cache_use,
)
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.names import is_addressable

# The default and the maximum of a skill's batchSize: what an indexer sends in one request.
MAX_RECORDS = 1000
_MAX_NAME_LENGTH = 1024
_CONTAINER = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
# The characters of a URL (RFC 3986) without "[", "]" and "#". Backslashes, spaces, control characters and non-ASCII
# letters are excluded because URL parsers disagree about them.
_URL = re.compile(r"(?:[A-Za-z0-9._~:/@!$&'()*+,;=?-]|%[0-9A-Fa-f]{2})*")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")


class WebApiRecord(msgspec.Struct, rename="camel"):
    """One record of a request. ``data`` holds the inputs; wrong ones are an error of this record only."""

    record_id: str
    data: dict[str, Any]


class WebApiRequest(msgspec.Struct):
    """The body of a request."""

    values: list[WebApiRecord]


class WebApiMessage(msgspec.Struct):
    """An error or a warning about one record."""

    message: str


class WebApiVector(msgspec.Struct, omit_defaults=True):
    """The outputs of one record: none if it has errors."""

    vector: list[float] | None = None


class WebApiResult(msgspec.Struct, rename="camel"):
    """One record of an answer. The protocol requires ``errors`` and ``warnings``, which may be ``null``."""

    record_id: str
    data: WebApiVector
    errors: list[WebApiMessage] | None = None
    warnings: list[WebApiMessage] | None = None


class WebApiAnswer(msgspec.Struct):
    """The body of an answer: one result for each record, in order."""

    values: list[WebApiResult]


class _File(msgspec.Struct):
    """An image as indexers and queries send it: base64, next to ``$type``, sizes and other fields that are ignored."""

    data: str


class _Inputs(msgspec.Struct, rename="camel"):
    """The inputs of one record. A skill gets an image as ``image``, a vectorizer as ``imageBinary``."""

    text: str | None = None
    image: str | _File | None = None
    image_binary: str | _File | None = None
    image_url: str | None = None


_INPUTS = ("text", "image", "imageBinary", "imageUrl")


class AzureAISearch:
    """Answers the requests of a search service. Safe to call from many threads."""

    def __init__(self, settings: Settings, images: Images, queries: Queries) -> None:
        self._settings = settings
        self._images = images
        self._queries = queries
        self._account = settings.blob_service_uri

    def skill(self, request: WebApiRequest, report: QueryReport) -> WebApiAnswer:
        """Embed each record as a document; returns a vector or an error for each, in order.

        Raises :class:`~shared.errors.QueryError` for a wrong envelope. If no record got a vector and a retry could
        change that, raises the error that stands in the way: :class:`~shared.errors.ModelUnavailable` with status 429
        or 503, :class:`~shared.errors.ModelMisconfigured` or ``StorageError``. An indexer retries a failed request, up
        to three times, but never a failed record; with one vector or more the request succeeds, since a failed request
        loses its vectors too.
        """
        options = self._options("document", time.monotonic() + self._settings.foundry_timeout)
        _check_records(request.values)
        outcomes: list[Outcome] = []
        for some in itertools.batched(enumerate(request.values), MAX_QUERIES, strict=False):
            read = [self._try_to_read(index, record) for index, record in some]
            queries = [one for one in read if isinstance(one, Query)]
            answers = iter(self._queries.answer_each(queries, options, report) if queries else [])
            outcomes += [next(answers) if isinstance(one, Query) else one for one in read]
        _summarize(outcomes, report)
        _raise_if_a_retry_may_help(outcomes)
        results = zip(request.values, outcomes, strict=True)
        return WebApiAnswer([_result(record, outcome) for record, outcome in results])

    def vectorizer(self, request: WebApiRequest, report: QueryReport) -> WebApiAnswer:
        """Embed the one record of a query.

        Raises :class:`~shared.errors.QueryError`, :class:`~shared.errors.ModelError` or ``StorageError`` if it has no
        vector: a search service ignores the errors in an answer and reads only its status.
        """
        options = self._options("query", time.monotonic() + self._settings.foundry_timeout)
        _check_records(request.values)
        if len(request.values) != 1:
            message = f"The request has {len(request.values)} records; a vectorizer takes one."
            raise QueryError("invalid_request", message, target="values")
        [record] = request.values
        query = self._read(0, record)
        [answer] = self._queries.answer([query], options, report)
        return WebApiAnswer([_result(record, answer)])

    def _options(self, input_type: InputType, deadline: float) -> QueryOptions:
        return QueryOptions(
            ModelOptions(input_type=input_type, dimensions=self._settings.embedding_dimensions), deadline
        )

    def _try_to_read(self, index: int, record: WebApiRecord) -> Query | QueryError:
        try:
            return self._read(index, record)
        except QueryError as error:
            return error

    def _read(self, index: int, record: WebApiRecord) -> Query:
        """The record as a query, whose image is downloaded when its turn comes; raises :class:`QueryError`."""
        target = f"values[{index}].data"
        try:
            inputs = msgspec.convert(record.data, _Inputs)
        except msgspec.ValidationError as error:
            message, path = split_path(error)
            raise QueryError("invalid_request", f"{message}.", target=target + path) from error
        text = (inputs.text or "").strip() or None
        images = {"image": inputs.image, "imageBinary": inputs.image_binary, "imageUrl": inputs.image_url}
        present = [name for name, image in images.items() if image]
        if len(present) > 1:
            message = f"The record has {' and '.join(present)}; send one image only."
            raise QueryError("invalid_request", message, target=target)
        if not present:
            if text is None:
                message = f"The record has nothing to embed; its inputs may be {', '.join(_INPUTS)}."
                raise QueryError("invalid_request", message, target=target)
            return Query(f"{target}.text", text=text)
        return Query(f"{target}.{present[0]}", self._image(inputs, f"{target}.{present[0]}"), text)

    def _image(self, inputs: _Inputs, target: str) -> bytes | ImageSource:
        image = inputs.image or inputs.image_binary
        if image:
            return decode_image(image.data if isinstance(image, _File) else image, target)
        container, name = self._blob(inputs.image_url or "", target)
        return lambda deadline: self._download(container, name, target, deadline)

    @contextmanager
    def _download(self, container: str, name: str, target: str, deadline: float) -> Iterator[bytes]:
        """The bytes of a blob, for a block; raises :class:`QueryError` for one that cannot be read."""
        with ExitStack() as held:
            try:
                data = held.enter_context(self._images.read_blob(container, name, deadline=deadline))
            except PictureError as error:
                raise QueryError(error.code, str(error), status=413, target=target) from error
            except TimeoutError as error:
                message = (
                    "The time of the request (FOUNDRY_TIMEOUT) was over before there was room in memory for this image."
                    " Make the skill's batchSize smaller."
                )
                raise ModelUnavailable(message, status=504) from error
            except StorageError as error:
                if error.status is None or error.status >= 500 or error.status in {408, 429}:
                    raise
                message = (
                    f"Storage did not return this blob of the container {container} ({error.code or error.status})."
                    " Check that it exists, is not archived and is not being overwritten, and that the app's identity"
                    " has the role Storage Blob Data Reader on the container."
                )
                raise QueryError("image_not_readable", message, target=target) from error
            yield data

    def _blob(self, url: str, target: str) -> tuple[str, str]:
        """The container and the blob that a URL of this account names; raises :class:`QueryError` for all other URLs.

        The host is compared as text, never parsed: the URL must start with the app's own account followed by a slash,
        and the request is built from the account's URL and the two names. No message quotes the URL, which may hold a
        SAS.
        """

        def refuse(why: str) -> QueryError:
            return QueryError("invalid_request", f"The imageUrl {why}", target=target)

        if not _URL.fullmatch(url):
            raise refuse("has a character that must be percent-encoded, such as a space, '#' or an accented letter.")
        path = url.partition("?")[0]
        own, rest = path[: len(self._account)], path[len(self._account) :]
        if own.lower() != self._account.lower() or not rest.startswith("/"):
            raise refuse(f"must start with {self._account}/: images are fetched from the app's own account only.")
        container, slash, encoded = rest[1:].partition("/")
        if not _CONTAINER.fullmatch(container) or not slash or not encoded:
            raise refuse("must name a container and a blob, such as images/a.jpg.")
        if container == self._settings.embeddings_container:
            raise refuse("names the embeddings container, which holds no images.")
        try:
            name = unquote(encoded, errors="strict")
        except UnicodeDecodeError as error:
            raise refuse("is not percent-encoded UTF-8.") from error
        # Decoded once more: a proxy that does the same must not find another blob.
        if _UNPRINTABLE.search(name) or not is_addressable(unquote(name)):
            raise refuse("names a blob with '.' or '..' between slashes, a backslash or a control character.")
        # Storage errors show the blob's name, and must never show a signature.
        if "sig=" in name.lower():
            raise refuse("has a percent-encoded query string; the first '?' must not be encoded.")
        if len(name) > _MAX_NAME_LENGTH:
            raise refuse(f"names a blob with more than {_MAX_NAME_LENGTH:,} characters.")
        return container, name


def _check_records(records: Sequence[WebApiRecord]) -> None:
    if len(records) > MAX_RECORDS:
        message = f"The request has {len(records):,} records; send at most {MAX_RECORDS:,}."
        raise QueryError("request_too_large", message, target="values", status=413)
    seen = set()
    for index, record in enumerate(records):
        if record.record_id in seen:
            message = f"The recordId {record.record_id[:100]!r} appears twice; each must be unique."
            raise QueryError("invalid_request", message, target=f"values[{index}].recordId")
        seen.add(record.record_id)


def _summarize(outcomes: Sequence[Outcome], report: QueryReport) -> None:
    """Fill in the report for the whole request: each group has reported only itself."""
    answers = [one for one in outcomes if isinstance(one, Answer)]
    failed = [one for one in outcomes if not isinstance(one, Answer)]
    charged = {answer.record.id: answer.record.total_tokens or 0 for answer in answers if not answer.cached}
    report.total_tokens = sum(charged.values())
    report.cache = cache_use(answers)
    if failed:
        report.code = "records_failed"
        report.message = f"{len(failed)} of {len(outcomes)} records failed; the first: {_message(failed[0])}"


def _raise_if_a_retry_may_help(outcomes: Sequence[Outcome]) -> None:
    """Raise if no record got a vector and one of them is not itself at fault."""
    if any(isinstance(one, Answer) for one in outcomes):
        return
    unavailable = [one for one in outcomes if isinstance(one, ModelUnavailable)]
    if unavailable:
        longest = max(unavailable, key=lambda error: error.retry_after or -math.inf)
        status = 429 if longest.status == 429 else 503
        raise ModelUnavailable(str(longest), status=status, retry_after=longest.retry_after)
    for one in outcomes:
        if isinstance(one, ModelMisconfigured | StorageError):
            raise one


def _result(record: WebApiRecord, outcome: Outcome) -> WebApiResult:
    unknown = [name[:100] for name in record.data if name not in _INPUTS]
    warning = f"Unknown inputs were ignored: {', '.join(unknown[:10])}. The inputs are {', '.join(_INPUTS)}."
    warnings = [WebApiMessage(warning)] if unknown else None
    if isinstance(outcome, Answer):
        return WebApiResult(record.record_id, WebApiVector(outcome.record.embedding), None, warnings)
    return WebApiResult(record.record_id, WebApiVector(), [WebApiMessage(_message(outcome))], warnings)


def _message(failure: Failure) -> str:
    return str(failure)[:MESSAGE_LIMIT]
