"""How the stand-in for the model behaves: how fast it is, what its quota is, and in which ways it fails."""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Annotated, Literal

import msgspec
import numpy as np
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from local.model.requests import Numbers, Refusal, unauthorized, wrapped

NANOSECONDS = 10**9  # a second


class Throttle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A quota of `calls` a window; the rest are 429.

    `retry_after` is the one place that says how long to wait, or the seconds that the header of that name says, true or
    not.
    """

    calls: Annotated[int, msgspec.Meta(ge=0)]
    window_s: Annotated[float, msgspec.Meta(ge=1e-9)]
    retry_after: Literal["seconds", "date", "ms", "body", "none"] | Annotated[int, msgspec.Meta(ge=0)] = "seconds"


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to fail, for the next `times` calls (null: for ever) that `match`.

    `match` is the model's name, a part of the text, or the beginning of the image's sha256; empty matches every call.
    """

    kind: Literal[
        "400", "500", "502_html", "503", "unauthorized", "content_filter", "empty_200", "malformed_json",
        "wrong_length", "nan", "zeros", "drop", "hang",
    ]  # fmt: skip
    times: Annotated[int, msgspec.Meta(ge=0)] | None = None
    match: str = ""


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the stand-in behaves. Mode `cheap` decodes no picture and makes vectors from a checksum: for benchmarks.

    `answers_as` is the model that its answers name, as if that were deployed under the requested name.
    """

    latency_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    throttle: Throttle | None = None
    fault: Fault | None = None
    mode: Literal["picture", "cheap"] = "picture"
    answers_as: str | None = None


def rate_limited(throttle: Throttle, wait_ns: int) -> Refusal:
    """429, with the time to wait, rounded up, in the place that the throttle names."""
    message = f"Rate limit of {throttle.calls} per {throttle.window_s:g}s exceeded for UserByModelByMinute."
    seconds = rounded_up(wait_ns, NANOSECONDS)
    headers = {}
    match throttle.retry_after:
        case "seconds":
            headers["Retry-After"] = str(seconds)
        case "date":
            headers["Retry-After"] = formatdate(rounded_up(time.time_ns() + wait_ns, NANOSECONDS), usegmt=True)
        case "ms":
            headers["retry-after-ms"] = str(rounded_up(wait_ns, NANOSECONDS // 1000))
        case "body":
            message += f" Please wait {seconds} seconds before retrying."
        case "none":
            pass
        case stated:
            headers["Retry-After"] = str(stated)
    error = {"code": "RateLimitReached", "message": message, "details": message}
    return Refusal(429, {"error": error}, headers)


def rounded_up(nanoseconds: int, unit: int) -> int:
    """The number of units, counting the last one even if it is only begun."""
    return -(-nanoseconds // unit)


class NoAnswer(Response):
    """No answer at all: the connection is closed at once, or stays open until the client gives up."""

    def __init__(self, *, hang: bool) -> None:
        super().__init__(status_code=0)
        self.hang = hang

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""
        if self.hang:
            await receive()
        else:
            scope["state"]["transport"].abort()
            await asyncio.sleep(0)


FAILURES: dict[str | None, Callable[[], Response]] = {
    "400": wrapped(400, "BadRequest", "The request is not valid.").response,
    "500": wrapped(500, "InternalServerError", "The server had an error processing it.").response,
    "502_html": lambda: HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", 502),
    "503": wrapped(503, "ServiceUnavailable", "The service is temporarily unavailable.").response,
    "unauthorized": unauthorized().response,
    "content_filter": Refusal(
        400, {"status": 400, "code": "content_filter", "message": "The response was filtered", "type": None}
    ).response,
    "empty_200": Response,
    "malformed_json": lambda: Response('{"id": "0ab1234c", "object": "list", "data": [', media_type="application/json"),
    "drop": lambda: NoAnswer(hang=False),
    "hang": lambda: NoAnswer(hang=True),
}
"""The faults that replace the answer. The others spoil its vectors."""


def spoiled(vectors: list[Numbers], fault: str | None) -> list[Numbers]:
    """Return the vectors, or wrong ones if that is the fault."""
    match fault:
        case "wrong_length":
            return [vector[:-1] for vector in vectors]
        case "nan":
            return [np.full(vector.shape, np.nan, np.float32) for vector in vectors]
        case "zeros":
            return [np.zeros_like(vector) for vector in vectors]
        case _:
            return vectors
