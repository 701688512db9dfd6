"""The model: one client for the embeddings API of Azure AI Foundry Models."""

import email.utils
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from ssl import SSLContext

import httpx
import msgspec
import pybase64

from shared.errors import IdentityError, ModelError, ModelMisconfigured, ModelRefused, ModelUnavailable, RefusalCode
from shared.identity import Identity
from shared.records import EncodingFormat, InputType
from shared.settings import Settings
from shared.throttle import Gate
from shared.wire import EmbeddingsAnswer, ServiceError, read_error

# Waiting belongs into the invocation only while it is short: a worker thread is held and paid for meanwhile.
ATTEMPTS = 4
LONGEST_WAITS = 5.0
# Doubled three times, the longest of these waits together stay within LONGEST_WAITS.
_FIRST_BACKOFF = 0.3
# Sending 7 MB and being answered takes seconds at most; a model that says nothing for a minute will not.
_TIMEOUT, _CONNECT_TIMEOUT = 60.0, 10.0

_REFUSALS = {400, 413, 415, 422}
_MISCONFIGURED_CODES = {"no_model_name", "unknown_model", "operationnotsupported", "deploymentnotfound"}
_OUR_FIELDS = {"model", "input_type", "dimensions", "encoding_format"}
_WAIT = re.compile(r"(?:wait|retry after|try again in)\s+(\d+)\s+second", re.IGNORECASE)
# Vector lengths as published for the models that embed images (Cohere, "Embed" model cards).
_PUBLISHED_DIMENSIONS = {"cohere-embed-v3": 1024, "embed-v-4-0": 1536}


@dataclass(frozen=True)
class ModelOptions:
    """How the model embeds. ``extras`` are further fields of the request that only this model knows."""

    input_type: InputType
    dimensions: int | None = None
    encoding_format: EncodingFormat = "float"
    extras: Mapping[str, object] = field(default_factory=dict)

    @property
    def asked_encoding(self) -> EncodingFormat:
        """What the model is asked for: base64 is made from floats, exactly, and the integer encodings are not."""
        return "float" if self.encoding_format == "base64" else self.encoding_format


@dataclass(frozen=True)
class _Turn:
    """When a call has its turn: see :meth:`Foundry.embed_image`."""

    patience: float
    deadline: float
    urgent: bool


type _Body = Callable[[], list[bytes]]


@dataclass(frozen=True)
class ModelAnswer:
    """One embedding as the model gave it; token counts are ``None`` where it did not say."""

    embedding: list[float]
    prompt_tokens: int | None
    total_tokens: int | None


class Foundry:
    """A client for one deployment, made once a process and safe to call from many threads.

    At most ``FOUNDRY_CONCURRENCY`` calls are in flight at once, fewer after refusals, and none while the model has
    asked to be left alone. Each call raises :class:`ModelRefused`,
    :class:`ModelMisconfigured` or :class:`ModelUnavailable` where it gives no answer; transient failures have
    then been tried :data:`ATTEMPTS` times within :data:`LONGEST_WAITS` seconds of waiting.
    """

    def __init__(self, settings: Settings, identity: Identity, tls: SSLContext) -> None:
        self._settings = settings
        self._identity = identity
        self._gate = Gate(settings.foundry_concurrency)
        # HTTP/2 costs ten times the CPU on uploads of megabytes, and httpcore's pool is quadratic in connections.
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=60.0)
        self._client = httpx.Client(limits=limits, verify=tls)

    def embed_image(
        self,
        png: bytes,
        text: str | None,
        options: ModelOptions,
        *,
        patience: float = LONGEST_WAITS,
        deadline: float = math.inf,
        urgent: bool = False,
    ) -> ModelAnswer:
        """Embed a PNG, fused with a text where there is one.

        While the model has asked others to leave it alone, this waits for ``patience`` seconds at most; where that
        is too short, :class:`ModelBusy` is raised at once. By ``deadline`` (``time.monotonic``) there is an answer or
        an error. What is ``urgent`` goes before what is not, where calls wait for each other.
        """

        def body() -> list[bytes]:
            return image_request(self._settings.foundry_model, png, text, options)

        return self._embed("images/embeddings", body, options, text is not None, _Turn(patience, deadline, urgent))

    def embed_text(self, text: str, options: ModelOptions, *, deadline: float = math.inf) -> ModelAnswer:
        """Embed a text into the space of the images: urgent, as somebody waits for it."""

        def body() -> list[bytes]:
            return _request(self._settings.foundry_model, [msgspec.json.encode(text)], options)

        return self._embed("embeddings", body, options, False, _Turn(LONGEST_WAITS, deadline, urgent=True))

    def check(self, patience: float) -> None:
        """Raise :class:`ModelBusy` where a call would: then nothing need be made ready for it."""
        self._gate.check(patience)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _embed(self, route: str, body: _Body, options: ModelOptions, has_text: bool, turn: "_Turn") -> ModelAnswer:
        def ask() -> ModelAnswer:
            response = self._send(route, body, options, turn)
            if response.status_code != HTTPStatus.OK:
                raise _failure(response, has_text)
            return _read_answer(response, options, options.dimensions or self._published_dimensions())

        return _with_retries(ask, turn.deadline)

    def _send(self, route: str, body: _Body, options: ModelOptions, turn: "_Turn") -> httpx.Response:
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            **({"extra-parameters": "pass-through"} if options.extras else {}),
        }
        if self._settings.foundry_api_key:
            return self._post(route, body, {**headers, "api-key": self._settings.foundry_api_key}, turn)
        response = self._post(route, body, {**headers, **self._bearer()}, turn)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            # A token can be revoked, or a role granted, before it expires: one fresh token tells.
            response = self._post(route, body, {**headers, **self._bearer(fresh=True)}, turn)
        return response

    def _post(self, route: str, body: _Body, headers: dict[str, str], turn: "_Turn") -> httpx.Response:
        url = f"{self._settings.foundry_endpoint}/{route}"
        parameters = {"api-version": self._settings.foundry_api_version}
        try:
            with self._gate.passage(turn.patience, deadline=turn.deadline, urgent=turn.urgent):
                left = max(0.1, min(_TIMEOUT, turn.deadline - time.monotonic()))
                timeout = httpx.Timeout(left, connect=min(_CONNECT_TIMEOUT, left))
                # Made here, as those that wait for a place need not hold megabytes of base64.
                parts = body()
                sent = {**headers, "content-length": str(sum(map(len, parts)))}
                response = self._client.post(url, content=parts, headers=sent, params=parameters, timeout=timeout)
                self._tell_gate(response)
                return response
        except httpx.TimeoutException as error:
            message = f"No answer in time from {url}: {type(error).__name__}"
            raise ModelUnavailable(message, status=HTTPStatus.GATEWAY_TIMEOUT) from error
        except httpx.TransportError as error:
            raise ModelUnavailable(f"No answer from {url}: {type(error).__name__}: {error}") from error

    def _tell_gate(self, response: httpx.Response) -> None:
        """Before the next call takes this one's place: of a refusal, so that no other call is spent on one."""
        if response.status_code == HTTPStatus.OK:
            self._gate.answered()
        elif response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._gate.refused(_asked_wait(response, read_error(response.content)))

    def _bearer(self, *, fresh: bool = False) -> dict[str, str]:
        try:
            token = self._identity.token(self._settings.foundry_scope, fresh=fresh)
        except IdentityError as error:
            raise ModelMisconfigured(str(error)) from error
        return {"authorization": f"Bearer {token}"}

    def _published_dimensions(self) -> int | None:
        name = self._settings.foundry_model.lower()
        return next((n for prefix, n in _PUBLISHED_DIMENSIONS.items() if name.startswith(prefix)), None)


def image_request(model: str, png: bytes, text: str | None, options: ModelOptions) -> list[bytes]:
    """Return the JSON body of a request for an image, in parts that are sent one after the other.

    Megabytes of base64 need no escaping: they pass no JSON encoder and are never copied.
    """
    item = [b'{"image":"data:image/png;base64,', pybase64.b64encode(png), b'"']
    if text is not None:
        item += [b',"text":', msgspec.json.encode(text)]
    return _request(model, [*item, b"}"], options)


def _request(model: str, item: list[bytes], options: ModelOptions) -> list[bytes]:
    fields: dict[str, object] = {**options.extras, "model": model, "input_type": options.input_type}
    if options.dimensions is not None:
        fields["dimensions"] = options.dimensions
    if options.asked_encoding != "float":
        fields["encoding_format"] = options.asked_encoding
    return [msgspec.json.encode(fields)[:-1] + b',"input":[' + item[0], *item[1:], b"]}"]


def _with_retries(ask: Callable[[], ModelAnswer], deadline: float) -> ModelAnswer:
    """Ask until there is an answer, a final error, or no point in waiting any longer."""
    waited = 0.0
    for attempt in range(1, ATTEMPTS):
        try:
            return ask()
        except ModelUnavailable as error:
            wait = _backoff(attempt) if error.retry_after is None else error.retry_after
            if waited + wait > LONGEST_WAITS or time.monotonic() + wait > deadline:
                raise
            time.sleep(wait)
            waited += wait
    return ask()


def _backoff(attempt: int) -> float:
    """Exponential with full jitter, in seconds, so that many callers do not come back at the same moment."""
    return random.uniform(0, _FIRST_BACKOFF * 2**attempt)  # noqa: S311 - spread, not secrecy


def _read_answer(response: httpx.Response, options: ModelOptions, dimensions: int | None) -> ModelAnswer:
    """Check the answer before anything believes it: one item, the right length, finite, not all zero."""
    if not response.content:
        raise ModelMisconfigured(
            f"{response.url.host} answered 200 with nothing in it, as it does when FOUNDRY_ENDPOINT lacks its"
            " /models: it must be like https://<resource>.services.ai.azure.com/models",
            status=200,
        )
    try:
        answer = msgspec.json.decode(response.content, type=EmbeddingsAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnavailable(f"The model's answer is not what the API promises: {error}", status=200) from error
    if len(answer.data) != 1 or isinstance(answer.data[0].embedding, str):
        raise ModelUnavailable(
            f"The model answered one input with {len(answer.data)} embeddings or with no list of numbers",
            status=200,
        )
    embedding = answer.data[0].embedding
    if dimensions is not None and options.asked_encoding in {"binary", "ubinary"}:
        dimensions //= 8
    if not embedding or (dimensions is not None and len(embedding) != dimensions):
        raise ModelMisconfigured(
            f"The model answered with {len(embedding)} numbers where {dimensions} belong."
            " Check FOUNDRY_MODEL and EMBEDDING_DIMENSIONS.",
            status=200,
        )
    if not all(map(math.isfinite, embedding)) or not (any(embedding) or options.asked_encoding != "float"):
        raise ModelUnavailable("The model answered with a vector that is all zero or not finite", status=200)
    return ModelAnswer(embedding, answer.usage.prompt_tokens, answer.usage.total_tokens)


def _failure(response: httpx.Response, has_text: bool) -> ModelError:
    """What a status other than 200 means. The service's own message is kept."""
    status = response.status_code
    error = read_error(response.content)
    said = f"The model answered {status}: {': '.join(filter(None, (error.code, error.message))) or '(nothing)'}"
    if status in {408, 429} or status >= 500:
        return ModelUnavailable(said, status=status, retry_after=_asked_wait(response, error))
    if status not in _REFUSALS or error.code.lower() in _MISCONFIGURED_CODES or error.fields & _OUR_FIELDS:
        advised = f"{said}. {_ADVICE.get(status, '')}".rstrip()
        return ModelMisconfigured(advised, status=status, fields=error.fields)
    return ModelRefused(_refusal(error, has_text), said, status=status)


_ADVICE = {
    400: "Check FOUNDRY_MODEL and FOUNDRY_ENDPOINT.",
    401: "Check FOUNDRY_SCOPE, and that the app's identity has the role Cognitive Services User on the resource.",
    403: "Check that the app's identity has the role Cognitive Services User on the resource and may reach it.",
    404: "Check FOUNDRY_ENDPOINT and FOUNDRY_MODEL; a new deployment takes some minutes to answer.",
    422: "Check FOUNDRY_MODEL and EMBEDDING_DIMENSIONS.",
}


def _refusal(error: ServiceError, has_text: bool) -> RefusalCode:
    if "content_filter" in error.code.lower():
        return "content_filtered"
    if has_text and ("text" in error.fields or re.search(r"\btexts?\b", error.message)):
        return "text_not_supported"
    return "refused_by_model"


def _asked_wait(response: httpx.Response, error: ServiceError) -> float | None:
    """The wait that the service asks for, in seconds: from the headers, else from the words of its message."""
    headers = response.headers
    if (after := headers.get("retry-after")) is not None:
        if re.fullmatch(r"\d+(\.\d+)?", after.strip()):
            return float(after)
        try:
            date = email.utils.parsedate_to_datetime(after)
        except ValueError:
            pass
        else:
            return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if re.fullmatch(r"\d+", headers.get(name, "")):
            return int(headers[name]) / 1000
    words = _WAIT.search(error.message)
    return float(words[1]) if words else None
