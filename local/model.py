"""A stand-in for the model: one process that speaks the embeddings wire format of Azure AI Foundry Models.

    python -m local.model --port 0

What is simulated: the two embeddings routes with the service's checks and refusals (see `local.model_requests`),
headers and usage numbers, its throttling, and the ways it fails, switchable by `POST /admin/behaviour`. What is not:
vectors come from colours and words (see `local.vectors`), not from a trained model, and the signature of a token is
not checked. Loopback only.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import math
import socket
import time
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Callable
from email.utils import formatdate
from typing import Annotated, Literal

import msgspec
import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from local import vectors
from local.model_requests import (
    Asked,
    ImageRequest,
    Refusal,
    TextRequest,
    authenticate,
    decoded,
    images_of,
    passed_on,
    read,
    unauthorized,
    wrapped,
)

type Vector = NDArray[np.float32]
type Answer = NDArray[np.float32 | np.int16]

TOKENS_PER_IMAGE = 1000


class Throttle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many calls a window, the rest 429; `retry_after` is the one place that says how long to wait."""

    calls: Annotated[int, msgspec.Meta(ge=0)]
    window_s: Annotated[float, msgspec.Meta(gt=0)]
    retry_after: Literal["seconds", "date", "ms", "body", "none"] = "seconds"


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to fail, for the next `times` calls (null: for ever) that `match`.

    `match` is the model's name, a part of the text, or how the image's sha256 begins; empty matches all.
    """

    kind: Literal[
        "500", "502_html", "503", "unauthorized", "content_filter", "empty_200", "malformed_json",
        "wrong_length", "nan", "zeros", "drop", "hang",
    ]  # fmt: skip
    times: Annotated[int, msgspec.Meta(ge=0)] | None = None
    match: str = ""


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the stand-in behaves. Mode `cheap` looks at no picture: vectors from a checksum, for benchmarks.

    `answers_as` is what its answers name as the model, as if that were deployed under the name that is asked for.
    """

    latency_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    throttle: Throttle | None = None
    fault: Fault | None = None
    mode: Literal["picture", "cheap"] = "picture"
    answers_as: str | None = None


class Call(msgspec.Struct):
    """What is remembered of one call: never a token, never image data. Status 0 means that none was sent.

    `sha256`, `bytes`, `width` and `height` are those of the first image, `text` is the first text; `fault` is there
    when it met one, `encoding_format` when it asked for one, `passed_on` when it had fields beside the API's own: their
    names.
    """

    route: str
    time: float
    status: int = 0
    fault: str | msgspec.UnsetType = msgspec.UNSET
    appid: str = ""
    model: str = ""
    input_type: str | None = None
    dimensions: int | None = None
    encoding_format: str | msgspec.UnsetType = msgspec.UNSET
    passed_on: list[str] | msgspec.UnsetType = msgspec.UNSET
    inputs: int = 0
    text: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None


class Service:
    """The routes and the little state behind them."""

    def __init__(self, api_key: str | None = None) -> None:
        self.api_key = api_key
        self.in_flight = 0
        self.behave(Behaviour())
        self.forget()

    def app(self) -> Starlette:
        """Make the ASGI application."""
        return Starlette(
            routes=[
                Route("/models/images/embeddings", self.embeddings, methods=["POST"]),
                Route("/models/embeddings", self.embeddings, methods=["POST"]),
                # What the real service does to a base URL without /models: 200 and nothing in it.
                Route("/images/embeddings", nothing, methods=["POST"]),
                Route("/embeddings", nothing, methods=["POST"]),
                Route("/admin/health", health),
                Route("/admin/behaviour", self.admin_behaviour, methods=["GET", "POST", "DELETE"]),
                Route("/admin/calls", self.admin_calls, methods=["GET", "DELETE"]),
            ],
            exception_handlers={HTTPException: no_such_route},
        )

    def behave(self, behaviour: Behaviour) -> None:
        """Behave like this from now on."""
        self.behaviour = behaviour
        fault = behaviour.fault
        self.faults_left = math.inf if fault is None or fault.times is None else fault.times
        self.window_end = 0.0
        self.admitted = 0

    def forget(self) -> None:
        """Forget the calls so far."""
        self.calls: deque[Call] = deque(maxlen=10_000)
        self.by_status: Counter[int] = Counter()
        self.peak = self.in_flight

    async def embeddings(self, request: Request) -> Response:
        """Either embeddings route, remembered whatever comes of it."""
        call = Call(route=request.url.path, time=time.time())
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            response = await self.answer(request, call)
            call.status = response.status_code
        except Refusal as refusal:
            response = refusal.response()
            call.status = refusal.status
        finally:
            self.in_flight -= 1
            self.by_status[call.status] += 1
            self.calls.append(call)
        return response

    async def answer(self, request: Request, call: Call) -> Response:
        """Who asks, what is asked, is there quota left, and then the vectors."""
        body = await request.body()
        call.appid = authenticate(request.headers, self.api_key)
        cheap = self.behaviour.mode == "cheap"
        asked = await asyncio.to_thread(read, request, body)
        pngs = [] if cheap else await asyncio.to_thread(images_of, asked)
        describe(call, asked, pngs)
        call.passed_on = passed_on(request, body) or msgspec.UNSET
        self.admit()
        await asyncio.sleep(self.behaviour.latency_ms / 1000)
        fault = self.fault_for(call)
        if fault:
            call.fault = fault
        if fault in FAULTS:
            return FAULTS[fault]()
        if cheap:
            answers = checksum_vectors(body, asked)
        else:
            answers = await asyncio.to_thread(embed, asked, pngs, call)
        name = asked.model if self.behaviour.answers_as is None else self.behaviour.answers_as
        return embeddings_response(asked, spoiled([encoded(answer, asked) for answer in answers], fault), name)

    def admit(self) -> None:
        """Count a call against the quota; refuse it when none is left in this window."""
        throttle = self.behaviour.throttle
        if throttle is None:
            return
        now = time.monotonic()
        if not self.window_end:
            self.window_end = now
        if now >= self.window_end:
            # The first window begins with the first call; from then on they follow each other, asked for or not.
            unused = (now - self.window_end) // throttle.window_s
            self.window_end += (unused + 1) * throttle.window_s
            self.admitted = 0
        if self.admitted >= throttle.calls:
            raise rate_limited(throttle, self.window_end - now)
        self.admitted += 1

    def fault_for(self, call: Call) -> str | None:
        """Return the fault that this call meets, if any, and use it up."""
        fault = self.behaviour.fault
        if fault is None or self.faults_left <= 0:
            return None
        matches = (
            fault.match == call.model or fault.match in (call.text or "") or (call.sha256 or "").startswith(fault.match)
        )
        if not matches:
            return None
        self.faults_left -= 1
        return fault.kind

    async def admin_behaviour(self, request: Request) -> Response:
        """Show (GET), replace (POST; what is left out is as at the start) or reset (DELETE) the behaviour."""
        if request.method != "GET":
            try:
                self.behave(msgspec.json.decode(await request.body() or b"{}", type=Behaviour))
            except msgspec.DecodeError as error:
                return JSONResponse({"error": str(error)}, 400)
        return Response(msgspec.json.encode(self.behaviour), media_type="application/json")

    async def admin_calls(self, request: Request) -> Response:
        """Show (GET) or forget (DELETE) the calls: how many by status, most at one time, the last 10,000."""
        if request.method == "DELETE":
            self.forget()
        counts = {"total": self.by_status.total(), "by_status": self.by_status, "peak": self.peak}
        shown = {**counts, "calls": list(self.calls)}
        return Response(msgspec.json.encode(shown), media_type="application/json")


def describe(call: Call, asked: Asked, pngs: list[bytes]) -> None:
    """Note what is asked, without the images."""
    call.model = asked.model
    call.inputs = len(asked.input)
    first = asked.input[0]
    call.text = first if isinstance(first, str) else first.text or None
    call.input_type = asked.input_type or None
    call.dimensions = asked.dimensions or None
    call.encoding_format = asked.encoding_format
    if pngs:
        call.sha256 = hashlib.sha256(pngs[0]).hexdigest()
        call.bytes = len(pngs[0])


def embed(asked: Asked, pngs: list[bytes], call: Call) -> list[Vector]:
    """Return one vector for each input, in order."""
    if isinstance(asked, TextRequest):
        features = [vectors.of_text(text) for text in asked.input]
    else:
        features = []
        for index, (item, png) in enumerate(zip(asked.input, pngs, strict=True)):
            picture = decoded(png, index)
            if index == 0:
                call.width, call.height = picture.size
            features.append(vectors.of_pair(picture, item.text) if item.text else vectors.of_picture(picture))
    return [vectors.project(each, asked.model, asked.length) for each in features]


def checksum_vectors(body: bytes, asked: Asked) -> list[Vector]:
    """Vectors that say no more than whether two requests were the same."""
    random = np.random.default_rng(zlib.crc32(body))
    answers = random.standard_normal((len(asked.input), asked.length), dtype=np.float32)
    return list(answers / np.linalg.norm(answers, axis=1, keepdims=True))


def encoded(vector: Vector, asked: Asked) -> Answer:
    """Return the numbers of a vector in the encoding asked for: floats or integers."""
    match asked.encoding_format:
        case "int8" | "uint8" | "binary" | "ubinary" as encoding:
            return vectors.quantized(vector, encoding)
        case _:
            return vector


def spoiled(answers: list[Answer], fault: str | None) -> list[Answer]:
    """Return the same vectors, or wrong ones if that is the fault."""
    match fault:
        case "wrong_length":
            return [vector[:-1] for vector in answers]
        case "nan":
            return [np.full(vector.shape, np.nan, np.float32) for vector in answers]
        case "zeros":
            return [np.zeros_like(vector) for vector in answers]
        case _:
            return answers


def embeddings_response(asked: Asked, answers: list[Answer], name: str) -> Response:
    """Make the 200: integers, numbers with nine decimals, like the service's, or base64 of little-endian float32."""
    texts = [item if isinstance(item, str) else item.text or "" for item in asked.input]
    tokens = sum(len(text.split()) for text in texts)
    if isinstance(asked, ImageRequest):
        tokens += TOKENS_PER_IMAGE * len(asked.input)
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    data = [
        {"index": index, "object": "embedding", "embedding": printed(vector, asked.encoding_format)}
        for index, vector in enumerate(answers)
    ]
    body = {"id": str(uuid.uuid4()), "object": "list", "data": data, "model": name, "usage": usage}
    headers = {"num_tokens": str(tokens), "azureml-model-group": f"offer-{asked.model.lower()}-paygo"}
    return Response(json.dumps(body), headers=headers, media_type="application/json")


def printed(vector: Answer, encoding_format: str | msgspec.UnsetType) -> str | list[float]:
    """Write a vector as it stands in the answer."""
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    whole = vector.dtype == np.int16
    numbers: list[float] = vector.tolist() if whole else vector.astype(np.float64).round(9).tolist()
    return numbers


def rate_limited(throttle: Throttle, wait: float) -> Refusal:
    """429, with the time to wait in the one place the behaviour asks for."""
    message = f"Rate limit of {throttle.calls} per {throttle.window_s:g}s exceeded for UserByModelByMinute."
    headers = {}
    match throttle.retry_after:
        case "seconds":
            headers["Retry-After"] = str(math.ceil(wait))
        case "date":
            headers["Retry-After"] = formatdate(math.ceil(time.time() + wait), usegmt=True)
        case "ms":
            headers["retry-after-ms"] = str(math.ceil(wait * 1000))
        case "body":
            message += f" Please wait {math.ceil(wait)} seconds before retrying."
        case "none":
            pass
    error = {"code": "RateLimitReached", "message": message, "details": message}
    return Refusal(429, {"error": error}, headers)


class NoAnswer(Response):
    """Nothing, ever: the connection is closed at once, or stays open until the client gives up."""

    def __init__(self, *, hang: bool) -> None:
        super().__init__(status_code=0)
        self.hang = hang

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep silent."""
        if self.hang:
            await receive()
        else:
            scope["state"]["transport"].abort()
            await asyncio.sleep(0)


FAULTS: dict[str | None, Callable[[], Response]] = {
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


async def no_such_route(_: Request, __: Exception) -> Response:
    """Answer for a path or verb that is not served: `/models/info` too, on the unified endpoint."""
    return wrapped(404, "404", "Resource not found").response()


async def nothing(_: Request) -> Response:
    """200 and an empty body."""
    return Response()


async def health(_: Request) -> Response:
    """Say that the process is up."""
    return JSONResponse({"status": "ok"})


class Protocol(H11Protocol):
    """HTTP as uvicorn speaks it; a request can also reach its connection, to drop it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Keep the connection where the application sees it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def main() -> None:
    """Serve on a loopback port until a signal."""
    parser = argparse.ArgumentParser(prog="python -m local.model", description="A stand-in for the model.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--api-key", help="ask for this key instead of a token")
    options = parser.parse_args()
    # The protocol is named so that asyncio sets TCP_NODELAY; without it small answers take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(1024)
    config = uvicorn.Config(
        Service(options.api_key).app(),
        http=Protocol,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
