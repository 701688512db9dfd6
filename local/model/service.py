"""The routes of the stand-in for the model, and the little state behind them."""

import asyncio
import hashlib
import math
import time
from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from local.model import cohere, foundry
from local.model.answers import Vector, checksum_vectors, embed, encoded
from local.model.behaviour import FAILURES, NANOSECONDS, Behaviour, rate_limited, spoiled
from local.model.models import PATHS
from local.model.requests import Format, Refusal, Wanted, authenticate, wrapped

COHERE = f"{PATHS['cohere']}/embed"


class Call(msgspec.Struct):
    """What is remembered of one call: never a token, never image data. Status 0 means that no answer was sent.

    `image_type`, `sha256`, `bytes`, `width` and `height` are those of the first image, `text` is the first text.
    `fault` is set when the call met one, `encoding_format` and `truncate` when it named one, and `passed_on` to the
    names of the fields that it had besides the API's own.
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
    truncate: str | msgspec.UnsetType = msgspec.UNSET
    passed_on: list[str] | msgspec.UnsetType = msgspec.UNSET
    inputs: int = 0
    text: str | None = None
    image_type: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None


class Service:
    """One deployment of every model. With `api_key` it takes that key and no token."""

    def __init__(self, api_key: str | None = None) -> None:
        self.api_key = api_key
        self.in_flight = 0
        self.behave(Behaviour())
        self.forget()

    def app(self, others: Mapping[str, "Service"] = MappingProxyType({})) -> Starlette:
        """Make the ASGI application. Each of the `others` has the same routes below its name."""
        return Starlette(
            routes=[
                *(Mount(f"/{name}", other.app()) for name, other in others.items()),
                Route("/models/images/embeddings", self.embeddings, methods=["POST"]),
                Route("/models/embeddings", self.embeddings, methods=["POST"]),
                Route(COHERE, self.embeddings, methods=["POST"]),
                # What the real service answers below a base URL without /models: 200 and an empty body.
                Route("/images/embeddings", empty, methods=["POST"]),
                Route("/embeddings", empty, methods=["POST"]),
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
        self.window_end = 0
        self.admitted = 0

    def forget(self) -> None:
        """Forget the calls so far."""
        self.calls: deque[Call] = deque(maxlen=10_000)
        self.by_status: Counter[int] = Counter()
        self.peak = self.in_flight

    async def embeddings(self, request: Request) -> Response:
        """Answer on any embeddings route and remember the call, whatever its outcome."""
        call = Call(route=request.url.path.removeprefix(request.scope.get("root_path", "")), time=time.time())
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
        """Check who calls, what the call wants and whether there is quota left; then make the vectors."""
        body = await request.body()
        call.appid = authenticate(request.headers, self.api_key)
        cheap = self.behaviour.mode == "cheap"
        spoken: Format = cohere if call.route == COHERE else foundry
        wanted = await asyncio.to_thread(spoken.read, request, body)
        images = [] if cheap else await asyncio.to_thread(wanted.images)
        describe(call, wanted, images)
        self.admit()
        await asyncio.sleep(self.behaviour.latency_ms / 1000)
        fault = self.fault_for(call)
        if fault:
            call.fault = fault
        if fault in FAILURES:
            return FAILURES[fault]()
        if cheap:
            vectors = checksum_vectors(body, wanted)
        else:
            vectors = await asyncio.to_thread(decode_and_embed, wanted, images, call)
        name = wanted.model if self.behaviour.answers_as is None else self.behaviour.answers_as
        answers = {
            encoding: spoiled([encoded(vector, encoding) for vector in vectors], fault) for encoding in wanted.encodings
        }
        return spoken.response(wanted, answers, name)

    def admit(self) -> None:
        """Count a call against the quota; refuse it when none is left in this window."""
        throttle = self.behaviour.throttle
        if throttle is None:
            return
        # In whole nanoseconds: as floats, a wait of 6 seconds may be a little more, which rounds up to 7.
        now, window = time.monotonic_ns(), round(throttle.window_s * NANOSECONDS)
        if not self.window_end:
            self.window_end = now
        if now >= self.window_end:
            # The first window begins with the first call; from then on one follows another, used or not.
            unused = (now - self.window_end) // window
            self.window_end += (unused + 1) * window
            self.admitted = 0
        if self.admitted >= throttle.calls:
            raise rate_limited(throttle, self.window_end - now)
        self.admitted += 1

    def fault_for(self, call: Call) -> str | None:
        """Return the fault that this call meets, if any, and count it as met."""
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
        """Show (GET), replace (POST; what is left out has its default) or reset (DELETE) the behaviour."""
        if request.method != "GET":
            try:
                self.behave(msgspec.json.decode(await request.body() or b"{}", type=Behaviour))
            except msgspec.DecodeError as error:
                return JSONResponse({"error": str(error)}, 400)
        return Response(msgspec.json.encode(self.behaviour), media_type="application/json")

    async def admin_calls(self, request: Request) -> Response:
        """Show (GET) or forget (DELETE) the calls: how many by status, most in flight at once, the last 10,000."""
        if request.method == "DELETE":
            self.forget()
        counts = {"total": self.by_status.total(), "by_status": self.by_status, "peak": self.peak}
        shown = {**counts, "calls": list(self.calls)}
        return Response(msgspec.json.encode(shown), media_type="application/json")


def describe(call: Call, wanted: Wanted, images: list[bytes | None]) -> None:
    """Note what the call wants, without its images."""
    call.model = wanted.model
    call.inputs = len(wanted.items)
    call.text = wanted.items[0].text
    call.input_type = wanted.input_type
    call.dimensions = wanted.dimensions
    call.encoding_format = wanted.encoding_said
    call.truncate = wanted.truncate
    call.passed_on = list(wanted.passed_on) or msgspec.UNSET
    if images and images[0] is not None:
        call.image_type = wanted.image_type()
        call.sha256 = hashlib.sha256(images[0]).hexdigest()
        call.bytes = len(images[0])


def decode_and_embed(wanted: Wanted, images: list[bytes | None], call: Call) -> list[Vector]:
    """Return the vectors, and note the size of the first picture."""
    pictures = [None if image is None else wanted.decoded(image, index) for index, image in enumerate(images)]
    if pictures and pictures[0] is not None:
        call.width, call.height = pictures[0].size
    return embed(wanted, pictures)


async def no_such_route(_: Request, __: Exception) -> Response:
    """Answer for a path or verb that is not served: `/models/info` too, on the unified endpoint."""
    return wrapped(404, "404", "Resource not found").response()


async def empty(_: Request) -> Response:
    """200 and an empty body."""
    return Response()


async def health(_: Request) -> Response:
    """Say that the process is up."""
    return JSONResponse({"status": "ok"})
