"""The model: one client for one deployment of Azure AI Foundry Models."""

import base64
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from ssl import SSLContext

import httpx

from shared.errors import (
    IdentityError,
    ModelMisconfigured,
    ModelRefused,
    ModelTimedOut,
    ModelUnavailable,
    NotSent,
)
from shared.identity import Identity
from shared.known_models import COHERE_PATH
from shared.model import cohere, foundry
from shared.model.rate_limiter import RateLimiter
from shared.model.wire_format import ModelAnswer, ModelOptions, WireFormat, failure, read_error, requested_wait
from shared.settings import Settings

# A worker thread is held, and paid for, while a call waits: so retries within a call wait a few seconds in total.
MAX_ATTEMPTS = 4
MAX_TOTAL_WAIT = 5.0
# Doubled for each retry, the longest of these waits stay within MAX_TOTAL_WAIT in total.
_FIRST_BACKOFF = 0.3
# Sending 7 MB and receiving the answer takes a few seconds; a model that is silent for a minute will not answer.
_TIMEOUT, _CONNECT_TIMEOUT = 60.0, 10.0

# A vector of 65,536 numbers takes 1.5 MB.
_MAX_ANSWER = 8 * 2**20
# A call that had so long and got no answer tells that the model hangs; one that a caller cut short tells nothing.
_HANGS_AFTER = 20.0

# What no model refuses for itself: a word, and a grey picture of 56 x 56 pixels.
_HARMLESS_TEXT = "health"
_HARMLESS_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAADgAAAA4CAAAAACN7WTCAAAAJUlEQVR42u3LMREAAAgEoNfkRreC5ww7NfnpiKIoiqIoiqIoniwCvwDw4JgfoQ"
    "AAAABJRU5ErkJggg=="
)


@dataclass(frozen=True)
class Schedule:
    """When a call may be sent, and by when it is over. Times are of ``time.monotonic``.

    A throttled model is waited for until ``wait_until``, over all attempts together; by ``deadline`` there is an answer
    or an error. ``urgent`` calls go first where calls wait for a place.
    """

    wait_until: float
    deadline: float
    urgent: bool = False

    @classmethod
    def of(cls, max_wait: float, max_time: float, *, urgent: bool = False) -> "Schedule":
        """A schedule that begins now: so many seconds of waiting for a throttled model, and so many in all."""
        now = time.monotonic()
        return cls(now + max_wait, now + max_time, urgent)


@dataclass(frozen=True)
class _Wish:
    """What is asked of the model. ``body`` makes the request's body, in parts."""

    body: Callable[[], list[bytes]]
    options: ModelOptions
    has_image: bool = False
    has_text: bool = False


@dataclass(frozen=True)
class _Response:
    """A response that has been read."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    host: str


class ModelClient:
    """A client for one deployment, made once a process and safe to call from many threads.

    At most ``FOUNDRY_CONCURRENCY`` calls are in flight at once, fewer after a 429, and none while the model is
    throttled. Each call raises :class:`~shared.errors.ModelRefused`, :class:`~shared.errors.ModelMisconfigured` or
    :class:`~shared.errors.ModelUnavailable` if it gets no embedding; by then a transient failure has been tried
    :data:`MAX_ATTEMPTS` times, within :data:`MAX_TOTAL_WAIT` seconds of waiting.
    """

    def __init__(self, settings: Settings, identity: Identity, tls: SSLContext) -> None:
        self._settings = settings
        self._identity = identity
        self._format: WireFormat = cohere if settings.foundry_endpoint.endswith(COHERE_PATH) else foundry
        self._rate_limiter = RateLimiter(settings.foundry_concurrency)
        # HTTP/2 costs ten times the CPU on uploads of megabytes, and httpcore's pool is quadratic in connections.
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=60.0)
        self._client = httpx.Client(limits=limits, verify=tls)

    def embed_image(
        self,
        png: bytes,
        text: str | None,
        options: ModelOptions,
        schedule: Schedule,
    ) -> ModelAnswer:
        """Embed a PNG, fused with a text if there is one."""

        def body() -> list[bytes]:
            return self._format.image_request(self._settings.foundry_model, png, text, options)

        return self._embed(_Wish(body, options, has_image=True, has_text=text is not None), schedule)

    def embed_text(self, text: str, options: ModelOptions, schedule: Schedule) -> ModelAnswer:
        """Embed a text into the space of the images."""

        def body() -> list[bytes]:
            return self._format.text_request(self._settings.foundry_model, text, options)

        return self._embed(_Wish(body, options), schedule)

    def check(self, schedule: Schedule) -> None:
        """Raise :class:`~shared.errors.NotSent` if a call would: then there is no point in preparing one."""
        self._rate_limiter.check(schedule.wait_until, deadline=schedule.deadline)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _embed(self, wish: _Wish, schedule: Schedule) -> ModelAnswer:
        try:
            return _with_retries(lambda: self._call(wish, schedule), schedule.deadline)
        except ModelRefused as error:
            if error.code == "refused_by_model" and not wish.options.extras:
                self._prove(wish, schedule, error)
            raise

    def _call(self, wish: _Wish, schedule: Schedule) -> ModelAnswer:
        response = self._send(wish, schedule)
        if response.status != HTTPStatus.OK:
            raise failure(
                response.status,
                response.headers,
                response.content,
                has_text=wish.has_image and wish.has_text,
                fields=self._format.FIELDS,
            )
        return self._format.read_answer(response.content, response.host, wish.options, self._settings.foundry_model)

    def _prove(self, wish: _Wish, schedule: Schedule, refused: ModelRefused) -> None:
        """Ask for something harmless, because what was refused may be our request and not the input in it.

        A refusal is recorded and never retried, so a gateway's or an API version's 400 must not pass for one of the
        image. Earlier answers prove nothing: what stands between may have changed since. Raises
        :class:`~shared.errors.ModelMisconfigured` if the harmless request is refused as well.
        """
        model = self._settings.foundry_model

        def body() -> list[bytes]:
            if wish.has_image:
                return self._format.image_request(model, base64.b64decode(_HARMLESS_PNG), None, wish.options)
            return self._format.text_request(model, _HARMLESS_TEXT, wish.options)

        try:
            self._call(replace(wish, body=body, has_text=False), schedule)
        except ModelRefused:
            message = (
                f"{refused} It refuses a harmless input as well, so the request itself is at fault: check"
                " FOUNDRY_API_VERSION, FOUNDRY_ENDPOINT and what stands between the app and the model."
            )
            raise ModelMisconfigured(message, status=refused.status) from refused

    def _send(self, wish: _Wish, schedule: Schedule) -> _Response:
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            **self._format.headers(wish.options),
        }
        if self._settings.foundry_api_key:
            return self._post(wish, {**headers, "api-key": self._settings.foundry_api_key}, schedule)
        response = self._post(wish, {**headers, **self._bearer()}, schedule)
        if response.status == HTTPStatus.UNAUTHORIZED:
            # A token can be revoked, or a role granted, before it expires: a fresh token tells.
            response = self._post(wish, {**headers, **self._bearer(fresh=True)}, schedule)
        return response

    def _post(self, wish: _Wish, headers: dict[str, str], schedule: Schedule) -> _Response:
        url = f"{self._settings.foundry_endpoint}/{self._format.route(has_image=wish.has_image)}"
        parameters = self._format.parameters(self._settings.foundry_api_version)
        try:
            with self._rate_limiter.acquire(schedule.wait_until, deadline=schedule.deadline, urgent=schedule.urgent):
                left = max(0.1, min(_TIMEOUT, schedule.deadline - time.monotonic()))
                timeout = httpx.Timeout(left, connect=min(_CONNECT_TIMEOUT, left))
                # Made only now: calls that wait for a place hold no megabytes of base64.
                parts = wish.body()
                sent = {**headers, "content-length": str(sum(map(len, parts)))}
                over = time.monotonic() + left
                try:
                    with self._client.stream(
                        "POST", url, content=parts, headers=sent, params=parameters, timeout=timeout
                    ) as streamed:
                        response = _read(streamed, over)
                except httpx.TimeoutException as error:
                    if left >= _HANGS_AFTER and not isinstance(error, httpx.ConnectTimeout):
                        self._rate_limiter.timed_out()
                    raise
                self._tell_rate_limiter(response)
                return response
        except httpx.ConnectTimeout as error:
            # Nothing was sent, so nothing was charged.
            raise ModelUnavailable(f"The model cannot be reached at {url}: {type(error).__name__}") from error
        except httpx.TimeoutException as error:
            message = f"The model did not answer in time at {url}: {type(error).__name__}"
            raise ModelTimedOut(message, status=HTTPStatus.GATEWAY_TIMEOUT) from error
        except httpx.RequestError as error:
            raise ModelUnavailable(f"The model did not answer at {url}: {type(error).__name__}: {error}") from error

    def _tell_rate_limiter(self, response: _Response) -> None:
        """Done while the call still holds its place, so that no other call is sent into a 429."""
        if response.status == HTTPStatus.OK:
            self._rate_limiter.succeeded()
        elif response.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._rate_limiter.throttled(requested_wait(response.headers, read_error(response.content)))

    def _bearer(self, *, fresh: bool = False) -> dict[str, str]:
        try:
            token = self._identity.token(self._settings.foundry_scope, fresh=fresh)
        except IdentityError as error:
            raise ModelMisconfigured(str(error)) from error
        return {"authorization": f"Bearer {token}"}


def _read(response: httpx.Response, over: float) -> _Response:
    """The whole response. A timeout of httpx is that of one read, and a response can come in many."""
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > _MAX_ANSWER:
            message = f"The model's answer has more than {_MAX_ANSWER:,} bytes, so it is no embedding."
            raise ModelUnavailable(message, status=HTTPStatus.BAD_GATEWAY)
        if time.monotonic() > over:
            raise httpx.ReadTimeout("The response came too slowly.", request=response.request)
    return _Response(response.status_code, response.headers, bytes(content), response.url.host)


def _with_retries(call: Callable[[], ModelAnswer], deadline: float) -> ModelAnswer:
    """Call until there is an answer, a final error, or no time left to wait."""
    waited = 0.0
    for attempt in range(1, MAX_ATTEMPTS):
        try:
            return call()
        except (ModelTimedOut, NotSent):
            # One may have been paid for; the other has waited as long as it may.
            raise
        except ModelUnavailable as error:
            wait = _backoff(attempt) if error.retry_after is None else error.retry_after
            if waited + wait > MAX_TOTAL_WAIT or time.monotonic() + wait > deadline:
                raise
            time.sleep(wait)
            waited += wait
    return call()


def _backoff(attempt: int) -> float:
    """Exponential with full jitter, in seconds, so that many callers do not come back at the same moment."""
    return random.uniform(0, _FIRST_BACKOFF * 2**attempt)  # noqa: S311 - jitter, not a secret
