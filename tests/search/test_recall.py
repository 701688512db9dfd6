"""An audit measures on the user's own images how much of what is nearest a search finds."""

import json
import logging
import random
from typing import Any

import pytest

from shared.audit.index.recall import recall
from shared.search import ranking
from shared.search import reader as reader_module
from shared.search.entries import Entry
from shared.search.index import Index
from tests.audit.audits import audit
from tests.conftest import Cloud
from tests.search.found import found
from tests.search.images import cosine, entry, gone, segment
from tests.search.records import write

DIMENSIONS = 100
NAMES = [f"{number:02}" for number in range(40)]


@pytest.fixture
def estimated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches of more than ten images compute exact cosines of so many of them."""
    monkeypatch.setattr(ranking, "EXACT_ROWS", 10)
    monkeypatch.setattr(ranking, "_CANDIDATES", request.param)


def numbers(rng: random.Random) -> list[float]:
    return [rng.gauss(0.3, 1) for _ in range(DIMENSIONS)]


def plainly(entries: list[Entry], index: Index, queries: int) -> float:
    """The same from a plain list, if the queries are every so many of the images by name."""
    shares = []
    for query in entries[:: -(-len(entries) // queries)]:
        own = index.vector_of(query.name)
        assert own is not None
        others = [one for one in entries if one.name != query.name]
        nearest = sorted((cosine(own, one) for one in others), reverse=True)[:10]
        hits = index.search(own, top=10, without=query.name)
        shares.append(sum(hit.score >= nearest[-1] - 1e-5 for hit in hits) / 10)
    return sum(shares) / len(shares)


@pytest.mark.parametrize("estimated", [12, 30, 300], indirect=True)
@pytest.mark.usefixtures("estimated")
def test_recall_is_the_share_of_the_nearest_images_that_searches_find() -> None:
    rng = random.Random(1)
    entries = [entry(f"{number:03}", 1, numbers(rng)) for number in range(250)]
    older = [entry(one.name, 0, numbers(rng)) for one in entries[:50]]
    older.append(entry("gone", 0, [1] * DIMENSIONS))
    index = Index([segment(older, DIMENSIONS), segment(entries[:230], DIMENSIONS)], dimensions=DIMENSIONS)
    index.add([*entries[230:], gone("gone", 1)])
    measured = recall(index)
    assert measured == pytest.approx(plainly(entries, index, 100))
    everything = ranking.candidates_of(len(entries))
    assert everything is not None
    assert (measured == 1) == (everything >= len(entries))


def line(caplog: pytest.LogCaptureFixture) -> tuple[int, dict[str, Any]]:
    """The level and the content of what was logged of the recall."""
    [found] = [one for one in caplog.records if '"recall' in one.getMessage()]
    return found.levelno, json.loads(found.getMessage())


@pytest.mark.parametrize(("estimated", "level"), [(12, logging.WARNING), (100, logging.INFO)], indirect=["estimated"])
@pytest.mark.usefixtures("estimated")
def test_an_audit_reports_it_and_warns_of_a_low_one(cloud: Cloud, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number, name in enumerate(NAMES):
        write(cloud, name, etag=f"0x{number}")
    cloud.index_blobs().next_log(cloud.index_blobs().read().manifest.newest)
    cloud.compaction().run()
    index = audit(cloud).index
    assert index is not None
    assert index.candidates == ranking._CANDIDATES
    assert index.recall is not None
    assert (index.recall < 0.99) == (level == logging.WARNING)
    logged_at, logged = line(caplog)
    assert (logged_at, logged["recall"], logged["images"]) == (level, index.recall, len(NAMES))
    assert ("docs/search.md" in logged.get("message", "")) == (level == logging.WARNING)


def test_it_is_not_measured_where_every_search_is_exact(cloud: Cloud) -> None:
    write(cloud, "a", "b")
    index = audit(cloud).index
    assert index is not None
    assert (index.images, index.recall, index.candidates) == (2, None, None)


@pytest.mark.parametrize("request_", [{"dry_run": True}, {"prefix": "0"}])
@pytest.mark.parametrize("estimated", [12], indirect=True)
@pytest.mark.usefixtures("estimated")
def test_nor_in_a_dry_run_or_an_audit_of_a_part(cloud: Cloud, request_: dict[str, Any]) -> None:
    write(cloud, *NAMES[:12])
    index = audit(cloud, **request_).index
    assert index is not None
    assert (index.recall, index.candidates) == (None, None)


@pytest.mark.parametrize("estimated", [12], indirect=True)
@pytest.mark.usefixtures("estimated")
def test_an_index_too_large_for_the_instance_is_not_measured_and_the_audit_ends_all_the_same(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    write(cloud, *NAMES[:12])
    monkeypatch.setattr(reader_module, "_memory", lambda: 1000)
    report = audit(cloud)
    assert report.finished_at is not None
    assert report.index is not None
    assert (report.index.recall, report.index.candidates) == (None, 12)
    level, logged = line(caplog)
    assert (level, logged["outcome"]) == (logging.INFO, "recall_unknown")
    assert "room for 250" in logged["message"]


def test_a_process_that_does_not_search_forgets_the_index_again_and_one_that_does_uses_its_own(cloud: Cloud) -> None:
    write(cloud, "a")
    reader = cloud.reader()
    assert set(found(reader.lend())) == {"a"}
    assert reader.as_of is None
    held = reader.current()
    assert reader.lend() is held
