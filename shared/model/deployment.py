"""One deployment of the model, at one endpoint: sends it requests, and tells its rate limiter how it took them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext

import httpx

from shared import USER_AGENT
from shared.errors import IdentityError, ModelMisconfigured, ModelTimedOut, ModelUnavailable
from shared.identity import Identity
from shared.model.rate_limiter import RateLimiter
from shared.model.wire_format import (
    Input,
    ModelAnswer,
    ModelOptions,
    Stated,
    WireFormat,
    failure,
    read_error,
    requested_wait,
    stated_quota,
)
from shared.settings import Settings

# Sending 7 MB and receiving the answer takes a few seconds; a model that is silent for a minute will not answer.
_TIMEOUT, _CONNECT_TIMEOUT = 60.0, 10.0
# A vector of 65,536 numbers takes 1.5 MB, 96 vectors of 2,048 take 5 MB.
_MAX_ANSWER = 8 * 2**20
# A call that had so long and got no answer tells that the model hangs; one that a caller cut short tells nothing.
_HANGS_AFTER = 20.0


@dataclass(frozen=True)
class _Response:
    """A response that has been read."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    host: str


class Deployment:
    """A deployment with connections and a rate limiter of its own. Safe to call from many threads."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        wire_format: WireFormat,
        rate_limiter: RateLimiter,
        settings: Settings,
        identity: Identity,
        tls: SSLContext,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.rate_limiter = rate_limiter
        self.stated: Stated | None = None
        """What its last answer said of the quota."""
        self._format = wire_format
        self._settings = settings
        self._identity = identity
        # HTTP/2 costs ten times the CPU on uploads of megabytes, and httpcore's pool is quadratic in connections.
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=60.0)
        self._client = httpx.Client(headers={"user-agent": USER_AGENT}, limits=limits, verify=tls)

    def call(self, inputs: Sequence[Input], options: ModelOptions, deadline: float) -> list[ModelAnswer]:
        """Embed the inputs by one request, in a place that the rate limiter gave; their vectors are not checked.

        Raises :class:`~shared.errors.ModelRefused`, :class:`~shared.errors.ModelMisconfigured` or
        :class:`~shared.errors.ModelUnavailable`.
        """
        response = self._send(inputs, options, deadline)
        if response.status != HTTPStatus.OK:
            raise failure(
                response.status,
                response.headers,
                response.content,
                has_text=any(one.image is not None and one.text is not None for one in inputs),
                fields=self._format.FIELDS,
            )
        return self._format.read_answers(response.content, response.host, inputs, options)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self, inputs: Sequence[Input], options: ModelOptions, deadline: float) -> _Response:
        # Made only here, in a place in flight: calls that wait for one hold no megabytes of base64.
        parts = self._format.request(self.model, inputs, options)
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "content-length": str(sum(map(len, parts))),
            **self._format.headers(options),
        }
        url = f"{self.endpoint}/{self._format.route(has_image=inputs[0].image is not None)}"
        if self._settings.foundry_api_key:
            return self._post(url, parts, {**headers, "api-key": self._settings.foundry_api_key}, deadline)
        response = self._post(url, parts, {**headers, **self._bearer()}, deadline)
        if response.status == HTTPStatus.UNAUTHORIZED:
            # A token can be revoked, or a role granted, before it expires: a fresh token tells.
            response = self._post(url, parts, {**headers, **self._bearer(fresh=True)}, deadline)
        return response

    def _post(self, url: str, parts: list[bytes], headers: dict[str, str], deadline: float) -> _Response:
        left = max(0.1, min(_TIMEOUT, deadline - time.monotonic()))
        timeout = httpx.Timeout(left, connect=min(_CONNECT_TIMEOUT, left))
        parameters = self._format.parameters(self._settings.foundry_api_version)
        over = time.monotonic() + left
        try:
            with self._client.stream(
                "POST", url, content=parts, headers=headers, params=parameters, timeout=timeout
            ) as streamed:
                response = _read(streamed, over)
        except httpx.ConnectTimeout as error:
            # Nothing was sent, so nothing was charged.
            raise ModelUnavailable(f"The model cannot be reached at {url}: {type(error).__name__}") from error
        except httpx.TimeoutException as error:
            if left >= _HANGS_AFTER:
                self.rate_limiter.timed_out()
            message = f"The model did not answer in time at {url}: {type(error).__name__}"
            raise ModelTimedOut(message, status=HTTPStatus.GATEWAY_TIMEOUT) from error
        except httpx.RequestError as error:
            raise ModelUnavailable(f"The model did not answer at {url}: {type(error).__name__}: {error}") from error
        self._tell_rate_limiter(response)
        return response

    def _tell_rate_limiter(self, response: _Response) -> None:
        """Done while the call still holds its place, so that no other call is sent into a 429."""
        if response.status == HTTPStatus.OK:
            self.rate_limiter.succeeded()
            self.stated = stated_quota(response.headers)
        elif response.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.rate_limiter.throttled(requested_wait(response.headers, read_error(response.content)))

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
