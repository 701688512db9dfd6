"""The demo: uploads pictures, waits for their embeddings, searches three times, and shows what happened.

It stands outside the app, as users do: it writes blobs, reads blobs and searches. Only the milliseconds and the
size of what the model was sent come from the log of the functions.
"""

import base64
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerClient
from rich.console import Console
from rich.text import Text

from local import samples, stack
from local.demo_output import Answer, Answered, doing, progress, show_answers, show_images
from local.real_model import RealModel, notice
from local.samples import Sample
from local.stack import Stack, StackError
from local.tables import shortened, standard_output
from local.upload import UploadError, files_of, storage, upload
from shared.audit.report import AuditReport
from shared.queries.formats.foundry_api import ModelInfo
from shared.queries.formats.search_api import SearchAnswer
from shared.storage.names import record_path, space_name
from shared.uploads.records import EmbeddingRecord, FailureRecord

_LOGS = stack.LOGS / str(os.getpid())
_PATIENCE = 120  # seconds without any new record

_PICTURE = "blue lake.bmp"  # of the samples; of your own pictures the first is the query
_TITLE_WIDTH = 30
_TEXT = "green grass under a blue sky"
_PAIRED_TEXT = "at night"
_TOP = 3
_LAST_WORDS = """\
Each upload was an event and each record is a blob: nothing called the app to embed
these pictures. A search embeds its picture or words into the same space and finds
the nearest of all pictures; asked again, it does without the model.

Next: 'make demo KEEP=1' keeps all of this running, with a gallery to look at.
'make demo IMAGES=folder' uses your own pictures."""


class DemoError(Exception):
    """The demo did not work. The message says what happened and where to look."""


@dataclass(frozen=True)
class Query:
    """One query: its title in the table, and what is searched for."""

    title: str
    asked: dict[str, str]


def main(
    folder: Path | None,
    model: str,
    query_model: str,
    real: RealModel | None = None,
    keep: Callable[[Stack], None] | None = None,
) -> int:
    """Run the demo on a folder of pictures, or on the samples. Returns the exit status: 0 only if all of it worked.

    ``keep`` is called in the end, while everything still runs, until Ctrl-C interrupts it. ``model`` and
    ``query_model`` are of those that the stand-in serves, unless there is a ``real`` one.
    """
    console = standard_output()
    if real:
        console.print(Text(f"{notice(real)}\n"), soft_wrap=True)
    try:
        _run(console, folder, model, query_model, real, keep)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (DemoError, StackError, UploadError, AzureError, httpx.HTTPError, OSError) as error:
        message = f"The demo did not work. {str(error) or repr(error)}"
        Console(stderr=True).print(Text(message, style="red"), soft_wrap=True)
        return 1
    return 0


def _run(
    console: Console,
    folder: Path | None,
    name: str,
    query_model: str,
    real: RealModel | None,
    keep: Callable[[Stack], None] | None,
) -> None:
    with ExitStack() as parts:
        with doing(console, "Drawing sample pictures" if folder is None else f"Listing the files in {folder}"):
            root, files = files_of(folder)
        stand_in = "" if real else "a stand-in for the model, "
        settings = {"FOUNDRY_QUERY_MODEL": query_model}
        with doing(console, f"Starting storage, identity, {stand_in}and the functions"):
            up = parts.enter_context(stack.running(model=name, settings=settings, real_model=real, logs=_LOGS))
        api = parts.enter_context(_api(up))
        service = parts.enter_context(storage(up.storage_connection_string, up.ca_file))
        if real:
            _check_health(api)
        model = _answered(api.get("/models/info"), ModelInfo).model_name

        start = time.monotonic()
        with progress(console, "Uploading", len(files)) as advance:
            upload(service.get_container_client("images"), root, files, advance)
        records, failures = _wait(console, service.get_container_client("embeddings"), space_name(model, None), files)
        seconds = time.monotonic() - start
        show_images(console, root, files, records, failures, _syncs({file.name for file in files}))
        counts = f"{len(files)} files: {len(records)} embedded by {model}, {len(failures)} refused"
        console.print(f"{counts}, in {seconds:.1f} s")
        with doing(console, "Auditing"):
            report = _answered(api.post("/reconcile"), AuditReport)
        console.print(f"Audit: {_audited(report)}\n")
        if folder is None and list(failures) != [samples.NO_PICTURE]:
            refused = ", ".join(failures) or "none"
            raise DemoError(f"Of the samples only {samples.NO_PICTURE} should be refused; refused: {refused}.")
        if not records:
            raise DemoError(f"None of the files in {root} is a picture. Choose a folder with pictures.")

        with doing(console, "Searching"):
            answers = [_ask_twice(api, query, len(records)) for query in _queries(root, records)]
        show_answers(console, answers)
        _check(answers)
        if real:
            tokens = sum(record.total_tokens or 0 for record in records.values()) + sum(each.tokens for each in answers)
            console.print(f"{tokens:,} tokens were paid for, and those of a word and a small picture to begin with.\n")
        if keep is None:
            console.print(_LAST_WORDS, soft_wrap=True)
            return
        with suppress(KeyboardInterrupt):
            keep(up)


def _api(up: Stack) -> httpx.Client:
    headers = {"x-functions-key": up.functions_key}
    return httpx.Client(base_url=f"{up.functions_url}/api", headers=headers, timeout=60, trust_env=False)


def _wait(
    console: Console, embeddings: ContainerClient, folder: str, files: Sequence[Sample]
) -> tuple[dict[str, EmbeddingRecord], dict[str, FailureRecord]]:
    """The embedding record or the failure record of every file, in the order of the files."""
    records: dict[str, EmbeddingRecord] = {}
    failures: dict[str, FailureRecord] = {}
    missing = [file.name for file in files]
    deadline = time.monotonic() + _PATIENCE
    with progress(console, "Waiting for their records", len(files)) as advance:
        while missing:
            there = {blob.name for blob in embeddings.list_blobs(name_starts_with=f"{folder}/")}
            for name in missing:
                if (path := record_path(folder, "images", name)) in there:
                    records[name] = msgspec.json.decode(_read(embeddings, path), type=EmbeddingRecord)
                elif (path := record_path(folder, "failures", name)) in there:
                    failures[name] = msgspec.json.decode(_read(embeddings, path), type=FailureRecord)
            still = [name for name in missing if name not in records and name not in failures]
            if len(still) < len(missing):
                deadline = time.monotonic() + _PATIENCE
                advance(len(files) - len(still))
            elif time.monotonic() > deadline:
                raise DemoError(
                    f"{len(still)} of {len(files)} files have neither an embedding record nor a failure record, and "
                    f"there was no new one for {_PATIENCE} s: {', '.join(still[:5])}. The logs are in {_LOGS}."
                )
            missing = still
            time.sleep(0.1)
    return _in_order(records, files), _in_order(failures, files)


def _in_order[Record](found: Mapping[str, Record], files: Sequence[Sample]) -> dict[str, Record]:
    return {file.name: found[file.name] for file in files if file.name in found}


def _read(container: ContainerClient, path: str) -> bytes:
    return container.download_blob(path).readall()


def _syncs(names: set[str]) -> dict[str, Any]:
    """What the functions logged of each image's first sync. The line comes just after the record."""
    syncs: dict[str, Any] = {}
    deadline = time.monotonic() + 2
    while not names <= syncs.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
        for line in (_LOGS / "functions.log").read_text(errors="replace").splitlines():
            if (start := line.find('{"event":"image",')) >= 0:
                sync, _ = json.JSONDecoder().raw_decode(line, start)
                syncs.setdefault(sync["name"], sync)
    return syncs


def _audited(report: AuditReport) -> str:
    """What the audit found. Raises DemoError where an image has neither a current embedding nor a failure record."""
    failed = sum(report.failed.values())
    if report.current + failed != report.images or report.orphaned:
        raise DemoError(f"The audit found images without a current record: {msgspec.json.encode(report).decode()}")
    return f"{report.images} images, {report.current} with a current embedding, {failed} with a failure record"


def _queries(root: Path, records: Mapping[str, EmbeddingRecord]) -> list[Query]:
    name = _PICTURE if _PICTURE in records else next(iter(records))
    title = shortened(name, _TITLE_WIDTH)
    image = "data:application/octet-stream;base64," + base64.b64encode((root / name).read_bytes()).decode()
    return [
        Query(f"the picture\n{title}", {"image": image}),
        Query(f"the words\n'{_TEXT}'", {"text": _TEXT}),
        Query(f"{title}\nwith '{_PAIRED_TEXT}'", {"image": image, "text": _PAIRED_TEXT}),
    ]


def _ask_twice(api: httpx.Client, query: Query, images: int) -> Answered:
    (first, tokens), (second, again) = _ask(api, query, images), _ask(api, query, images)
    return Answered(query.title, first, second, tokens + again)


def _ask(api: httpx.Client, query: Query, images: int) -> tuple[Answer, int]:
    """The answer, and the tokens that it cost. Raises DemoError if it was not looked for among so many images."""
    start = time.perf_counter()
    response = api.post("/search", json={**query.asked, "top": _TOP})
    milliseconds = (time.perf_counter() - start) * 1000
    answer = _answered(response, SearchAnswer)
    if answer.index.images != images:
        raise DemoError(f"Of {images} images with a record, search finds {answer.index.images}.")
    nearest = [(result.name, result.score) for result in answer.results]
    return Answer(nearest, response.headers["x-embedding-cache"], milliseconds), answer.usage.total_tokens or 0


def _answered[Shape](response: httpx.Response, shape: type[Shape]) -> Shape:
    if response.status_code != httpx.codes.OK:
        raise DemoError(f"{response.request.url.path} answered {response.status_code}: {response.text[:500]}")
    return msgspec.json.decode(response.content, type=shape)


def _check_health(api: httpx.Client) -> None:
    """Ask before anything waits: a real endpoint may be wrong, or want another key. It costs a word and a picture."""
    health = api.get("/health")
    if health.status_code != httpx.codes.OK:
        raise DemoError(" ".join(problem["message"] for problem in health.json()["error"]["details"]))


def _check(answers: Sequence[Answered]) -> None:
    for each in answers:
        if each.second.cache != "hit" or each.second.nearest != each.first.nearest:
            query = each.title.replace("\n", " ")
            raise DemoError(f"The search for {query} had another answer, or asked the model, when it was repeated.")
