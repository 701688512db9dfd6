"""The model: one client for one deployment of Azure AI Foundry Models."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext

import httpx

from shared.errors import IdentityError, ModelMisconfigured, ModelUnavailable
from shared.identity import Identity
from shared.model.rate_limiter import RateLimiter
from shared.model.wire_format import (
    IMAGE_ROUTE,
    TEXT_ROUTE,
    ModelAnswer,
    ModelOptions,
    failure,
    image_request,
    read_answer,
    read_error,
    requested_wait,
    text_request,
)
from shared.settings import Settings

# A worker thread is held, and paid for, while a call waits: so retries within a call wait a few seconds in total.
MAX_ATTEMPTS = 4
MAX_TOTAL_WAIT = 5.0
# Doubled for each retry, the longest of these waits stay within MAX_TOTAL_WAIT in total.
_FIRST_BACKOFF = 0.3
# Sending 7 MB and receiving the answer takes a few seconds; a model that is silent for a minute will not answer.
_TIMEOUT, _CONNECT_TIMEOUT = 60.0, 10.0

type _Body = Callable[[], list[bytes]]


@dataclass(frozen=True)
class _Schedule:
    """When a call may be sent: see :meth:`ModelClient.embed_image`."""

    max_wait: float
    deadline: float
    urgent: bool


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
        self._rate_limiter = RateLimiter(settings.foundry_concurrency)
        # HTTP/2 costs ten times the CPU on uploads of megabytes, and httpcore's pool is quadratic in connections.
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=60.0)
        self._client = httpx.Client(limits=limits, verify=tls)

    def embed_image(
        self,
        png: bytes,
        text: str | None,
        options: ModelOptions,
        *,
        max_wait: float = MAX_TOTAL_WAIT,
        deadline: float = math.inf,
        urgent: bool = False,
    ) -> ModelAnswer:
        """Embed a PNG, fused with a text if there is one.

        A throttled model is waited for at most ``max_wait`` seconds; if that is too short,
        :class:`~shared.errors.RateLimited` is raised at once. By ``deadline`` (``time.monotonic``) there is an answer
        or an error. ``urgent`` calls go first where calls wait for a place.
        """

        def body() -> list[bytes]:
            return image_request(self._settings.foundry_model, png, text, options)

        return self._embed(IMAGE_ROUTE, body, options, text is not None, _Schedule(max_wait, deadline, urgent))

    def embed_text(self, text: str, options: ModelOptions, *, deadline: float = math.inf) -> ModelAnswer:
        """Embed a text into the space of the images; always urgent, since a caller waits for it."""

        def body() -> list[bytes]:
            return text_request(self._settings.foundry_model, text, options)

        return self._embed(TEXT_ROUTE, body, options, False, _Schedule(MAX_TOTAL_WAIT, deadline, urgent=True))

    def check(self, max_wait: float) -> None:
        """Raise :class:`~shared.errors.RateLimited` if a call would: then there is no point in preparing one."""
        self._rate_limiter.check(max_wait)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _embed(
        self, route: str, body: _Body, options: ModelOptions, has_text: bool, schedule: _Schedule
    ) -> ModelAnswer:
        def call() -> ModelAnswer:
            response = self._send(route, body, options, schedule)
            if response.status_code != HTTPStatus.OK:
                raise failure(response.status_code, response.headers, response.content, has_text=has_text)
            return read_answer(response.content, response.url.host, options, self._settings.foundry_model)

        return _with_retries(call, schedule.deadline)

    def _send(self, route: str, body: _Body, options: ModelOptions, schedule: _Schedule) -> httpx.Response:
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            **({"extra-parameters": "pass-through"} if options.extras else {}),
        }
        if self._settings.foundry_api_key:
            return self._post(route, body, {**headers, "api-key": self._settings.foundry_api_key}, schedule)
        response = self._post(route, body, {**headers, **self._bearer()}, schedule)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            # A token can be revoked, or a role granted, before it expires: a fresh token tells.
            response = self._post(route, body, {**headers, **self._bearer(fresh=True)}, schedule)
        return response

    def _post(self, route: str, body: _Body, headers: dict[str, str], schedule: _Schedule) -> httpx.Response:
        url = f"{self._settings.foundry_endpoint}/{route}"
        parameters = {"api-version": self._settings.foundry_api_version}
        try:
            with self._rate_limiter.acquire(schedule.max_wait, deadline=schedule.deadline, urgent=schedule.urgent):
                left = max(0.1, min(_TIMEOUT, schedule.deadline - time.monotonic()))
                timeout = httpx.Timeout(left, connect=min(_CONNECT_TIMEOUT, left))
                # Made only now: calls that wait for a place hold no megabytes of base64.
                parts = body()
                sent = {**headers, "content-length": str(sum(map(len, parts)))}
                response = self._client.post(url, content=parts, headers=sent, params=parameters, timeout=timeout)
                self._tell_rate_limiter(response)
                return response
        except httpx.TimeoutException as error:
            message = f"The model did not answer in time at {url}: {type(error).__name__}"
            raise ModelUnavailable(message, status=HTTPStatus.GATEWAY_TIMEOUT) from error
        except httpx.TransportError as error:
            raise ModelUnavailable(f"The model did not answer at {url}: {type(error).__name__}: {error}") from error

    def _tell_rate_limiter(self, response: httpx.Response) -> None:
        """Done while the call still holds its place, so that no other call is sent into a 429."""
        if response.status_code == HTTPStatus.OK:
            self._rate_limiter.succeeded()
        elif response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._rate_limiter.throttled(requested_wait(response.headers, read_error(response.content)))

    def _bearer(self, *, fresh: bool = False) -> dict[str, str]:
        try:
            token = self._identity.token(self._settings.foundry_scope, fresh=fresh)
        except IdentityError as error:
            raise ModelMisconfigured(str(error)) from error
        return {"authorization": f"Bearer {token}"}


def _with_retries(call: Callable[[], ModelAnswer], deadline: float) -> ModelAnswer:
    """Call until there is an answer, a final error, or no time left to wait."""
    waited = 0.0
    for attempt in range(1, MAX_ATTEMPTS):
        try:
            return call()
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
