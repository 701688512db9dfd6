"""The demo: uploads pictures, waits for their embeddings, asks three queries, and shows what came of it.

It stands outside the app, as its users do: it writes blobs, reads blobs and posts queries. Only what happened on the
way (milliseconds, the size of what the model was sent) is read from the log of the functions.
"""

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import numpy as np
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient, ContainerClient
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from local import samples, stack
from local.azurite import REPO_ROOT
from local.samples import Sample
from local.stack import Stack, StackError
from shared.audit.report import AuditReport
from shared.model.wire_format import EmbeddingsAnswer
from shared.queries.foundry_api import ModelInfo
from shared.storage.names import record_path, space
from shared.uploads.records import EmbeddingRecord, FailureRecord

_SAMPLES = REPO_ROOT / ".local/samples"
_LOGS = stack.LOGS / str(os.getpid())
_PATIENCE = 120  # seconds without any new record
_LINE_EVERY = 5  # seconds between lines of progress where no terminal shows a bar
_PLAIN_WIDTH = 100  # columns where no terminal says how many it has

_PICTURE = "blue lake.bmp"  # of the samples; of your own pictures the first is asked for
_TEXT = "green grass under a blue sky"
_PAIRED_TEXT = "at night"
_LAST_WORDS = """
Nobody asked the app for these embeddings: each upload was an event, and each
record is a blob. The queries have vectors in the same space; asked again, they
were answered without the model.
Next: 'make serve' keeps all of this running, and the README says what to ask it;
'make demo IMAGES=folder' takes pictures of your own."""


class DemoError(Exception):
    """The demo did not work; the message says what happened and where to look."""


@dataclass(frozen=True)
class Query:
    """What is asked: a line for the table, the route, and the item of `input`."""

    title: str
    route: str
    item: str | dict[str, str]


@dataclass(frozen=True)
class Answer:
    """A vector, where it came from (`hit` is storage, `miss` the model), and how many milliseconds it took."""

    vector: list[float]
    cache: str
    milliseconds: float


def main(folder: Path | None) -> int:
    """Run the demo on a folder of pictures, or on the samples. Gives the exit status: 0 only if all of it worked."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    try:
        _run(console, folder)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (DemoError, StackError, AzureError, httpx.HTTPError, OSError) as error:
        message = f"The demo did not work. {str(error) or repr(error)}"
        Console(stderr=True).print(Text(message, style="red"), soft_wrap=True)
        return 1
    return 0


def _run(console: Console, folder: Path | None) -> None:
    with ExitStack() as parts:
        with _doing(console, "Drawing pictures" if folder is None else "Looking for files"):
            root = _SAMPLES if folder is None else folder
            files = samples.write(root) if folder is None else _files(root)
        with _doing(console, "Starting storage, identity, the stand-in for the model, and the functions"):
            up = parts.enter_context(stack.running(logs=_LOGS))
        api, storage = parts.enter_context(_api(up)), parts.enter_context(_storage(up))
        model = _answered(api.get("/models/info"), ModelInfo).model_name

        start = time.monotonic()
        _upload(console, storage.get_container_client("images"), root, files)
        records, failures = _wait(console, storage.get_container_client("embeddings"), space(model, None), files)
        seconds = time.monotonic() - start
        _show_images(console, root, files, records, failures)
        counts = f"uploaded: {len(files)}, embedded by {model}: {len(records)}, refused: {len(failures)}"
        console.print(f"{counts}; it took {seconds:.1f} s")
        with _doing(console, "Auditing"):
            report = _answered(api.post("/reconcile"), AuditReport)
        console.print(f"An audit agrees: {_told(report)}\n")
        if folder is None and list(failures) != [samples.NO_PICTURE]:
            refused = ", ".join(failures) or "none"
            raise DemoError(f"Of the samples {samples.NO_PICTURE} alone should be refused; refused: {refused}.")
        if not records:
            raise DemoError("None of the files is a picture, so there is nothing to ask for.")

        with _doing(console, "Asking"):
            answers = [(query, _ask(api, model, query), _ask(api, model, query)) for query in _queries(root, records)]
        _show_answers(console, answers, records)
        _check(answers, records)
        console.print(_LAST_WORDS, soft_wrap=True)


def _files(folder: Path) -> list[Sample]:
    """Every file in the folder and below, except hidden ones."""
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder.")
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = [Sample(name.as_posix()) for name in names if not any(part.startswith(".") for part in name.parts)]
    if not files:
        raise DemoError(f"There are no files in {folder}.")
    return files


def _api(up: Stack) -> httpx.Client:
    headers = {"x-functions-key": up.functions_key}
    return httpx.Client(base_url=f"{up.functions_url}/api", headers=headers, timeout=60, trust_env=False)


def _storage(up: Stack) -> BlobServiceClient:
    return BlobServiceClient.from_connection_string(up.storage_connection_string, connection_verify=str(up.ca_file))


def _upload(console: Console, images: ContainerClient, root: Path, files: Sequence[Sample]) -> None:
    with _bar(console, "Uploading", len(files)) as advance:
        for done, file in enumerate(files, 1):
            # Metadata are HTTP headers: anything but ASCII is percent-encoded.
            metadata = {"text": quote(file.text)} if file.text else None
            with (root / file.name).open("rb") as content:
                images.upload_blob(file.name, content, overwrite=True, metadata=metadata)
            advance(done)


def _wait(
    console: Console, embeddings: ContainerClient, folder: str, files: Sequence[Sample]
) -> tuple[dict[str, EmbeddingRecord], dict[str, FailureRecord]]:
    """The embedding record or the failure record of every file, in the order of the files."""
    records: dict[str, EmbeddingRecord] = {}
    failures: dict[str, FailureRecord] = {}
    missing = [file.name for file in files]
    deadline = time.monotonic() + _PATIENCE
    with _bar(console, "Waiting for their records", len(files)) as advance:
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
                    f"nothing came for {_PATIENCE} s: {', '.join(still[:5])}. The logs are in {_LOGS}."
                )
            missing = still
            time.sleep(0.1)
    return _in_order(records, files), _in_order(failures, files)


def _in_order[Record](found: Mapping[str, Record], files: Sequence[Sample]) -> dict[str, Record]:
    return {file.name: found[file.name] for file in files if file.name in found}


def _read(container: ContainerClient, path: str) -> bytes:
    return container.download_blob(path).readall()


def _show_images(
    console: Console,
    root: Path,
    files: Sequence[Sample],
    records: Mapping[str, EmbeddingRecord],
    failures: Mapping[str, FailureRecord],
) -> None:
    looks = _looks({file.name for file in files})
    table = _table(console, "Image", "Uploaded", "Sent to the model", "Outcome", "ms")
    table.columns[-1].justify = "right"
    for file in files:
        look = looks.get(file.name, {})
        record, prepared = records.get(file.name), look.get("prepared")
        size = (root / file.name).stat().st_size
        if record:
            how = "copied" if look.get("outcome") == "copied" else "embedded"
            outcome = Text(f"{how} + text" if record.text else how, style="green")
        else:
            outcome = Text(failures[file.name].code, style="yellow")
        table.add_row(
            Text(file.name),
            _measures(record.width, record.height, size) if record else _bytes(size),
            _measures(prepared["width"], prepared["height"], prepared["bytes"]) if prepared else "-",
            outcome,
            str(look.get("ms", {}).get("total", "-")),
        )
    console.print(table)
    for name, failure in failures.items():
        console.print(Text(f"{name}: {failure.message}", style="yellow"))


def _looks(names: set[str]) -> dict[str, Any]:
    """What the functions logged of their first look at each image. The line comes just after the record."""
    looks: dict[str, Any] = {}
    deadline = time.monotonic() + 2
    while not names <= looks.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
        for line in (_LOGS / "functions.log").read_text(errors="replace").splitlines():
            if (start := line.find('{"event":"image",')) >= 0:
                look, _ = json.JSONDecoder().raw_decode(line, start)
                looks.setdefault(look["name"], look)
    return looks


def _told(report: AuditReport) -> str:
    """What the audit found; raises DemoError where an image has neither a current embedding nor a failure record."""
    failed = sum(report.failed.values())
    if report.current + failed != report.images or report.orphaned:
        raise DemoError(f"The audit found images without a current record: {msgspec.json.encode(report).decode()}")
    return f"of {report.images} images {report.current} have a current embedding, {failed} a record that says why not"


def _queries(root: Path, records: Mapping[str, EmbeddingRecord]) -> list[Query]:
    name = _PICTURE if _PICTURE in records else next(iter(records))
    image = "data:application/octet-stream;base64," + base64.b64encode((root / name).read_bytes()).decode()
    return [
        Query(f"the picture {name}", "/models/images/embeddings", {"image": image}),
        Query(f"the words '{_TEXT}'", "/models/embeddings", _TEXT),
        Query(f"{name} with '{_PAIRED_TEXT}'", "/models/images/embeddings", {"image": image, "text": _PAIRED_TEXT}),
    ]


def _ask(api: httpx.Client, model: str, query: Query) -> Answer:
    start = time.perf_counter()
    response = api.post(query.route, json={"model": model, "input": [query.item], "input_type": "query"})
    milliseconds = (time.perf_counter() - start) * 1000
    vector = _answered(response, EmbeddingsAnswer).data[0].embedding
    if isinstance(vector, str):
        raise DemoError(f"{query.title}: numbers were asked for, base64 came.")
    return Answer(vector, response.headers.get("x-embedding-cache", "-"), milliseconds)


def _answered[Shape](response: httpx.Response, shape: type[Shape]) -> Shape:
    if response.status_code != httpx.codes.OK:
        raise DemoError(f"{response.request.url.path} answered {response.status_code}: {response.text[:500]}")
    return msgspec.json.decode(response.content, type=shape)


def _show_answers(
    console: Console, answers: Sequence[tuple[Query, Answer, Answer]], records: Mapping[str, EmbeddingRecord]
) -> None:
    table = _table(console, "Query", "Answer", "Nearest images")
    for query, first, second in answers:
        told = (
            f"{len(first.vector)} dimensions",
            f"{first.cache}, {first.milliseconds:.0f} ms",
            f"again: {second.cache}, {second.milliseconds:.0f} ms",
        )
        nearest = [f"{similarity:.3f}  {name}" for name, similarity in _nearest(first.vector, records)]
        table.add_row(Text(query.title), "\n".join(told), Text("\n".join(nearest)))
    console.print(table)


def _nearest(vector: Sequence[float], records: Mapping[str, EmbeddingRecord]) -> list[tuple[str, float]]:
    """The three images whose vectors point most nearly the same way, with the cosine of the angle."""
    query = np.array(vector)
    stored = np.array([record.embedding for record in records.values()])
    similarities = stored @ query / (np.linalg.norm(stored, axis=1) * np.linalg.norm(query))
    return sorted(zip(records, similarities.tolist(), strict=True), key=lambda pair: -pair[1])[:3]


def _check(answers: Sequence[tuple[Query, Answer, Answer]], records: Mapping[str, EmbeddingRecord]) -> None:
    dimensions = {record.dimensions for record in records.values()}
    for query, first, second in answers:
        if {len(first.vector)} != dimensions:
            raise DemoError(f"{query.title}: {len(first.vector)} dimensions, where the records have {dimensions}.")
        if second.cache != "hit" or second.vector != first.vector:
            raise DemoError(f"{query.title}: asked again, it was not answered from storage.")


@contextmanager
def _doing(console: Console, what: str) -> Iterator[None]:
    """Say what takes a moment: a spinner while a person watches, a line otherwise."""
    if console.is_terminal:
        with console.status(f"{what} ..."):
            yield
    else:
        console.print(f"{what}.")
        yield


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Say how far something is: a bar while a person watches, a line now and then otherwise."""
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=done)
    else:
        console.print(f"{what}.")
        said = time.monotonic()

        def advance(done: int) -> None:
            nonlocal said
            if time.monotonic() - said > _LINE_EVERY:
                console.print(f"{done} of {total}.")
                said = time.monotonic()

        yield advance


def _table(console: Console, *headings: str) -> Table:
    """A table whose first column gives way where the terminal is narrow."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, no_wrap=index > 0, overflow="fold")
    return table


def _measures(width: int, height: int, size: int) -> str:
    return f"{width}x{height}, {_bytes(size)}"


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
