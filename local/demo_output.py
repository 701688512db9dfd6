"""What the demo prints: its progress, and what happened as tables."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from local import tables
from local.samples import Sample
from local.tables import Name
from shared.uploads.records import EmbeddingRecord, FailureRecord

_LINE_EVERY = 5  # seconds between lines of progress where no terminal shows a bar
_NO_PICTURE = {"empty", "not_an_image", "unsupported_format"}
_MOST_LISTED = 10  # files that are not pictures; more are counted


@dataclass(frozen=True)
class Answer:
    """What a search found, the nearest images with their scores, and how many milliseconds it took.

    `cache` says where the query's vector came from: `hit` is the cache, `miss` the model.
    """

    nearest: Sequence[tuple[str, float]]
    cache: str
    milliseconds: float


@dataclass(frozen=True)
class Answered:
    """A query by its title, its answer and that of its repetition, and the tokens of both."""

    title: str
    first: Answer
    second: Answer
    tokens: int


@contextmanager
def doing(console: Console, what: str) -> Iterator[None]:
    """Say what takes a moment: with a spinner on a terminal, with a line elsewhere."""
    if console.is_terminal:
        with console.status(f"{what} ..."):
            yield
    else:
        console.print(f"{what}.")
        yield


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Say how far something is: with a bar on a terminal, with a line now and then elsewhere."""
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        console.print(f"{what}.")
        printed = time.monotonic()

        def advance(done: int) -> None:
            nonlocal printed
            if time.monotonic() - printed > _LINE_EVERY:
                console.print(f"{done} of {total}.")
                printed = time.monotonic()

        yield advance


def show_images(
    console: Console,
    root: Path,
    files: Sequence[Sample],
    records: Mapping[str, EmbeddingRecord],
    failures: Mapping[str, FailureRecord],
    syncs: Mapping[str, Any],
) -> None:
    """Print one row a file, and then why some were refused.

    `syncs` has the functions' log line of each file. Files that are not pictures are counted where they are many.
    """
    others = {name: failure for name, failure in failures.items() if failure.code in _NO_PICTURE}
    if len(others) <= _MOST_LISTED:
        others = {}
    table = tables.table(console, "Uploaded", "Sent to the model", "Outcome", "ms", "Image")
    table.columns[3].justify = "right"
    for name in (file.name for file in files if file.name not in others):
        sync, record = syncs.get(name, {}), records.get(name)
        size, prepared = (root / name).stat().st_size, sync.get("prepared")
        table.add_row(
            _measures(record.width, record.height, size) if record else _bytes(size),
            _measures(prepared["width"], prepared["height"], prepared["bytes"]) if prepared else "-",
            _outcome(record, sync) if record else Text(failures[name].code, style="yellow"),
            str(sync.get("ms", {}).get("total", "-")),
            Name(name),
        )
    if table.rows:
        tables.show(console, table)
    for name, failure in failures.items():
        if name not in others:
            console.print(Text(f"{name}: {failure.message}", style="yellow"), soft_wrap=True)
    if others:
        console.print(f"{len(others)} files are not pictures; each has a failure record:")
        for code, kinds in _counted(others).items():
            console.print(Text(f"  {code}: {kinds}", style="yellow"), soft_wrap=True)


def show_answers(console: Console, answers: Sequence[Answered]) -> None:
    """Print one row a query."""
    table = tables.table(console, "Search for", "Answer", "Nearest images")
    for each in answers:
        answer, again = each.first, each.second
        times = (
            f"{answer.cache}, {answer.milliseconds:.0f} ms",
            f"again: {again.cache}, {again.milliseconds:.0f} ms",
        )
        nearest = Group(*(Name(name, before=f"{score:.3f}  ") for name, score in answer.nearest))
        table.add_row(Text(each.title), "\n".join(times), nearest)
    tables.show(console, table)


def _outcome(record: EmbeddingRecord, sync: Mapping[str, Any]) -> Text:
    outcome = "copied" if sync.get("outcome") == "copied" else "embedded"
    return Text(f"{outcome} + text" if record.text else outcome, style="green")


def _counted(failures: Mapping[str, FailureRecord]) -> dict[str, str]:
    """How many files of which kind failed, by code, the most frequent kinds first."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, failure in failures.items():
        kinds[failure.code][PurePosixPath(name).suffix.lower() or "without an extension"] += 1
    return {code: ", ".join(f"{n} {kind}" for kind, n in counts.most_common()) for code, counts in kinds.items()}


def _measures(width: int, height: int, size: int) -> str:
    return f"{width}x{height}, {_bytes(size)}"


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
