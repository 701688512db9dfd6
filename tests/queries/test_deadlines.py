"""A request has one deadline, from its arrival to its answer; nothing is begun, or paid for, after it."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.errors import ModelTimedOut, ModelUnavailable, NotSent, QueryError
from shared.model.wire_format import ModelOptions
from shared.queries.cache import Failure, QueryCache
from shared.queries.queries import Query, QueryOptions, QueryReport
from shared.queries.records import QueryRecord
from tests.conftest import PATIENCE, Clock, Cloud
from tests.drawing import picture
from tests.queries.single_flight import waiting_callers


def options(seconds: float, **model: Any) -> QueryOptions:
    return QueryOptions(ModelOptions("query", **model), time.monotonic() + seconds)


def test_no_picture_is_prepared_after_the_deadline(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = cloud.queries()
    monkeypatch.setattr("shared.queries.queries.prepare", lambda *_: 1 / 0)
    with pytest.raises(ModelUnavailable, match="before this input's turn") as late:
        queries.answer([Query("input[0]", picture()), Query("input[1]", picture("blue"))], options(-1), QueryReport())
    assert late.value.status == 504
    assert cloud.model.calls() == []


def test_each_query_that_is_too_late_says_so_by_itself(cloud: Cloud) -> None:
    outcomes = cloud.queries().answer_each(
        [Query("a", text="red"), Query("b", text="blue")], options(-1), QueryReport()
    )
    assert [type(outcome) for outcome in outcomes] == [ModelUnavailable, ModelUnavailable]
    assert cloud.model.calls() == []


@pytest.mark.either_format
def test_pictures_that_do_not_fit_into_memory_are_prepared_again_when_their_turn_comes(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queries.queries._MAX_KEPT_BYTES", 0)
    queries = cloud.queries()
    asked = [Query(f"input[{index}]", picture(colour)) for index, colour in enumerate(("red", "green", "blue"))]
    answers = queries.answer(asked, options(PATIENCE), QueryReport())
    assert len({tuple(answer.record.embedding) for answer in answers}) == 3
    assert all(answer.record.preparation for answer in answers)


def words(number: int) -> list[Query]:
    return [Query(f"input[{index}]", text=f"red {index}") for index in range(number)]


def test_many_texts_whose_time_is_over_keep_what_was_embedded(cloud: Cloud, clock: Clock) -> None:
    queries = cloud.queries()
    turns = queries.answer_in_turns(
        words(1000), QueryOptions(ModelOptions("query"), clock.monotonic() + 90), QueryReport()
    )
    assert [len(next(turns)), len(next(turns))] == [384, 384]
    clock.pass_(100)
    with pytest.raises(ModelUnavailable, match="before this input's turn"):
        next(turns)
    cloud.model.reset()
    again = QueryOptions(ModelOptions("query"), clock.monotonic() + 90)
    assert [len(turn) for turn in queries.answer_in_turns(words(1000), again, QueryReport())] == [384, 384, 232]
    assert sum(call["inputs"] for call in cloud.model.calls()) == 232


def test_many_texts_wait_for_the_room_that_their_answer_takes(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.queries.queries._MAX_LONG_ANSWERS", 12_000_000)
    queries = cloud.queries()
    first = queries.answer_in_turns(words(100), options(PATIENCE), QueryReport())
    next(first)
    with pytest.raises(ModelUnavailable, match="encoding_format base64"):
        next(queries.answer_in_turns(words(100), options(-1), QueryReport()))
    assert (
        len(next(queries.answer_in_turns(words(100), options(PATIENCE, encoding_format="base64"), QueryReport())))
        == 100
    )
    assert list(first) == []
    assert len(next(queries.answer_in_turns(words(100), options(PATIENCE), QueryReport()))) == 100


@pytest.mark.either_format
@pytest.mark.usefixtures("clock")
def test_the_memory_that_a_request_holds_is_released_however_it_ends(cloud: Cloud) -> None:
    queries = cloud.queries()
    budget = queries._kept_pictures
    queries.answer([Query("a", picture()), Query("b", picture("blue"))], options(PATIENCE), QueryReport())
    cloud.model.behave(fault={"kind": "503"})
    with pytest.raises(ModelUnavailable):
        queries.answer([Query("a", picture("green"))], options(PATIENCE), QueryReport())
    assert budget._free == budget._size


@pytest.mark.either_format
def test_memory_is_released_also_where_one_query_ends_in_an_error_of_the_app(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = cloud.queries()
    budget = queries._kept_pictures
    released = threading.Event()
    release = budget.release

    def broken(_: float) -> AbstractContextManager[bytes]:
        raise ZeroDivisionError

    def noted(size: int) -> None:
        release(size)
        released.set()

    monkeypatch.setattr(budget, "release", noted)
    asked = [Query("a", broken), Query("b", picture()), Query("c", picture("blue"))]
    with pytest.raises(ZeroDivisionError):
        queries.answer_each(asked, options(PATIENCE), QueryReport())
    assert released.is_set()
    assert budget._free == budget._size


@pytest.mark.either_format
def test_a_vector_is_not_stored_under_the_bytes_that_a_blob_had_before(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.queries.queries._MAX_KEPT_BYTES", 0)
    versions = [picture(), picture("blue")]
    query = Query("input[0]", lambda _: nullcontext(versions.pop(0)))
    with pytest.raises(QueryError, match="overwritten") as raised:
        cloud.queries().answer([query], options(PATIENCE), QueryReport())
    assert (raised.value.code, raised.value.target) == ("image_not_readable", "input[0]")
    assert cloud.records() == []
    assert cloud.model.calls() == []


def record() -> QueryRecord:
    return QueryRecord(
        id="key",
        image_sha256=None,
        text="red",
        model="m",
        input_type="query",
        encoding_format="float",
        dimensions=1,
        preparation=None,
        prompt_tokens=1,
        total_tokens=1,
        embedded_at=datetime(2026, 11, 22, tzinfo=UTC),
        embedding=[1.0],
    )


def records(keys: Sequence[str]) -> list[QueryRecord | Failure]:
    return [record() for _ in keys]


@pytest.mark.parametrize("ends", [ModelTimedOut("late", status=504), NotSent("no time", status=503)])
def test_a_query_that_waits_for_another_that_runs_out_of_time_asks_the_model_itself(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, ends: ModelUnavailable
) -> None:
    cache = QueryCache(cloud.settings, cloud.blobs())
    asking, waiting = threading.Event(), waiting_callers(monkeypatch)
    deadline = time.monotonic() + PATIENCE

    def runs_out(_: Sequence[str]) -> list[QueryRecord | Failure]:
        asking.set()
        assert waiting.acquire(timeout=PATIENCE)
        return [ends]

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(cache.single_flight, "f", ["key"], runs_out, deadline=deadline, fresh=False)
        assert asking.wait(PATIENCE)
        second = threads.submit(cache.single_flight, "f", ["key"], records, deadline=deadline, fresh=False)
        assert first.result() == {"key": (ends, False)}
        assert second.result() == {"key": (record(), False)}


def test_queries_that_wait_for_another_fail_with_it_where_the_model_itself_is_down(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = QueryCache(cloud.settings, cloud.blobs())
    asking, waiting = threading.Event(), waiting_callers(monkeypatch)
    deadline = time.monotonic() + PATIENCE

    down = ModelUnavailable("The model answered 503", status=503)

    def is_down(_: Sequence[str]) -> list[QueryRecord | Failure]:
        asking.set()
        assert waiting.acquire(timeout=PATIENCE)
        return [down]

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(cache.single_flight, "f", ["key"], is_down, deadline=deadline, fresh=False)
        assert asking.wait(PATIENCE)
        second = threads.submit(cache.single_flight, "f", ["key"], records, deadline=deadline, fresh=False)
        assert (first.result(), second.result()) == ({"key": (down, False)}, {"key": (down, True)})


def test_a_query_waits_for_another_until_its_own_deadline(cloud: Cloud) -> None:
    cache = QueryCache(cloud.settings, cloud.blobs())
    asking, over = threading.Event(), threading.Event()
    deadline = time.monotonic() + PATIENCE

    def takes_long(_: Sequence[str]) -> list[QueryRecord | Failure]:
        asking.set()
        assert over.wait(PATIENCE)
        return [record()]

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(cache.single_flight, "f", ["key"], takes_long, deadline=deadline, fresh=False)
        assert asking.wait(PATIENCE)
        soon = time.monotonic() + 0.1
        [(late, _)] = cache.single_flight("f", ["key"], records, deadline=soon, fresh=False).values()
        assert isinstance(late, ModelTimedOut)
        assert late.status == 504
        assert not first.done()
        over.set()
        assert first.result() == {"key": (record(), False)}
