"""Progress is a number: how many images there are, have a record, wait and failed; how fast it goes, and until when."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.clock import milliseconds
from shared.search.upkeep.compaction import Compaction
from tests.conftest import Cloud
from tests.operations.asking import status
from tests.search import records


def embed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, prefix: str, count: int, *, per_minute: int) -> None:
    """Write so many records, at this rate until now."""
    end = milliseconds()
    times = iter([end - (count - number) * 60_000 // per_minute for number in range(count)])
    with monkeypatch.context() as past:
        past.setattr("shared.uploads.record_store.milliseconds", lambda: next(times))
        records.write(cloud, *(f"{prefix}{number:03}" for number in range(count)))


def wait(cloud: Cloud, count: int) -> None:
    for number in range(count):
        cloud.request_queue().put(f"waiting {number}")


@pytest.mark.parametrize("compacted", [False, True])
def test_the_rate_of_late_says_when_nothing_waits_any_more(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    embed(cloud, monkeypatch, "new", 30, per_minute=60)
    wait(cloud, 6)
    if compacted:
        monkeypatch.setattr("shared.search.upkeep.compaction.LARGE_LOG", 1)
        Compaction(cloud.settings, cloud.index_blobs(), cloud.queues())._work(float("inf"), clean=False)
        assert cloud.index_blobs().read().manifest.segments
    progress = status(cloud)["progress"]
    waiting = progress["waiting"]
    assert waiting in {6, 7}
    assert (progress["embedded"], progress["failed"], progress["images"]) == (30, 0, 30)
    assert progress["per_minute"] == pytest.approx(60, rel=1 / 3)
    left = datetime.fromisoformat(progress["done_at"]) - datetime.now(UTC)
    assert left == pytest.approx(timedelta(minutes=waiting / 60), rel=1 / 2)


def test_what_is_done_waits_for_nothing_and_without_an_index_the_rate_is_not_known(cloud: Cloud) -> None:
    records.write(cloud, "a")
    progress = status(cloud)["progress"]
    assert (progress["embedded"], progress["waiting"], progress["done_at"]) == (1, 0, None)
    without = status(cloud.with_settings(SEARCH="off"))["progress"]
    assert (without["embedded"], without["per_minute"], without["done_at"]) == (None, None, None)
