"""A function app for the tests of the host: it does nothing but say what it was given."""

import json
import os
import threading
import time
from collections import Counter
from typing import Any

import azure.functions as func
from azurefunctions.extensions.bindings.blob import BlobClient

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
runs: list[dict[str, Any]] = []
tries: Counter[str] = Counter()
released = threading.Semaphore(0)


def note(function: str, what: str, **more: object) -> None:
    """Remember a run. What is called `fails 2 …` fails twice, `fails …` always; `held …` ends when it is released."""
    runs.append({"function": function, "what": what, "at": time.monotonic(), **more})
    word, *rest = what.split(" ")
    if word == "held":
        released.acquire()
    tries[what] += 1
    if word == "fails" and (not rest[0].isdecimal() or tries[what] <= int(rest[0])):
        raise RuntimeError(f"{what} fails as it should")
    runs.append({"function": function, "what": what, "ended": time.monotonic()})


def answer(document: object, status: int = 200, **headers: str) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(document), status_code=status, mimetype="application/json", headers=headers)


@app.route("runs", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_runs(req: func.HttpRequest) -> func.HttpResponse:
    return answer(runs)


@app.route("release", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def release(req: func.HttpRequest) -> func.HttpResponse:
    released.release(int(req.params["runs"]))
    return func.HttpResponse(status_code=204)


@app.route("hello", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("hello")


@app.route("any", auth_level=func.AuthLevel.ANONYMOUS)
def any_verb(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.method)


@app.route("rest/{*path}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def rest(req: func.HttpRequest) -> func.HttpResponse:
    return answer(req.route_params["path"])


@app.route("things/{thing}/of", methods=["POST"])
def things(req: func.HttpRequest) -> func.HttpResponse:
    given = {"thing": req.route_params["thing"], "query": dict(req.params), "bytes": list(req.get_body())}
    return answer(given, status=201, **{"x-header": req.headers["x-header"]})


@app.route("admin", methods=["GET"], auth_level=func.AuthLevel.ADMIN)
def admin(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("for administrators")


@app.route("raises", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def raises(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("as it should")


@app.route("environment", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def environment(req: func.HttpRequest) -> func.HttpResponse:
    return answer(dict(os.environ))


@app.blob_trigger(
    "image", path="%IMAGES_CONTAINER%/{name}", connection="ImageStorage", source=func.BlobSource.EVENT_GRID
)
def by_name(image: BlobClient) -> None:
    note("by_name", image.blob_name, container=image.container_name)


@app.blob_trigger(
    "image", path="%IMAGES_CONTAINER%/{name}", connection="ImageStorage", source=func.BlobSource.EVENT_GRID
)
def by_content(image: func.InputStream) -> None:
    metadata = getattr(image, "metadata", None)  # its published type lacks it
    note("by_content", str(image.name), content=image.read().decode(), length=image.length, metadata=metadata)


@app.queue_trigger("message", queue_name="embedding-requests", connection="ImageStorage")
def by_message(message: func.QueueMessage) -> None:
    body = message.get_body().decode(errors="backslashreplace")
    inserted = message.insertion_time
    note("by_message", body, id=message.id, count=message.dequeue_count, inserted=inserted and inserted.isoformat())


@app.timer_trigger("timer", schedule="0 0 3 * * *")
def by_timer(timer: func.TimerRequest) -> None:
    note("by_timer", "now", late=timer.past_due)
