"""A search finds what a plain list would, whatever the history and wherever its parts are."""

import math
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.search import index as index_module
from shared.search import ranking
from shared.search.entries import Entry
from shared.search.index import Index
from shared.search.ranking import Hit
from shared.search.segment import Segment, merge, name_hash
from tests.search.images import NAMES, START, cosine, entry, gone, newest, segment, vector

DIMENSIONS = 100


def history(rng: random.Random, length: int, dimensions: int) -> list[Entry]:
    """Uploads, overwrites and deletions in an order that is not that of their seqs; no seq comes twice for a name."""
    names = [rng.choice(NAMES) + rng.choice(["", *NAMES]) for _ in range(length)]
    seqs = rng.sample(range(10 * length), length)
    return [
        gone(name, seq) if rng.random() < 0.2 else entry(name, seq, vector(rng, dimensions), minutes=rng.randrange(100))
        for name, seq in zip(names, seqs, strict=True)
    ]


def distinct(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Runs in which no name comes twice, as each segment needs them."""
    runs: list[dict[str, Entry]] = [{}]
    for one in entries:
        if one.name in runs[-1]:
            runs.append({})
        runs[-1][one.name] = one
    return [list(run.values()) for run in runs]


def split(rng: random.Random, entries: list[Entry], dimensions: int) -> Index:
    """An index of these entries, of which segments, merged ones and the tail have shares."""
    cut = rng.randint(0, len(entries))
    segments = [segment(run, dimensions) for run in distinct(entries[:cut]) if run]
    if segments and rng.random() < 0.5:
        some = rng.randint(1, len(segments))
        parts = merge(segments[:some])
        segments = [Segment.open(b"".join(parts), dimensions=dimensions), *segments[some:]]
    index = Index(segments, dimensions=dimensions)
    tail = entries[cut:]
    while tail:
        size = rng.randint(1, 8)
        index.add(tail[:size])
        tail = tail[size:]
    return index


def plainly(
    entries: list[Entry],
    query: list[float],
    prefix: str = "",
    min_score: float = -2,
    since: datetime = START,
    without: str | None = None,
) -> list[Hit]:
    hits = [
        Hit(name, cosine(query, one), one.facts)
        for name, one in newest(entries).items()
        if name.startswith(prefix) and one.facts and one.facts.embedded_at >= since and name != without
    ]
    # Scores that differ in the last digits only are those of equal vectors.
    return sorted((hit for hit in hits if hit.score >= min_score), key=lambda hit: (-round(hit.score, 12), hit.name))


def assert_same(found: list[Hit], expected: list[Hit]) -> None:
    assert [(hit.name, hit.facts) for hit in found] == [(hit.name, hit.facts) for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-12)


@pytest.fixture(params=["exact", "estimates"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows take the way of many as well: with candidates, in several tasks, and a tail that is often folded."""
    if request.param == "estimates":
        monkeypatch.setattr(index_module, "_TAIL", 20)
        for name, number in {
            "EXACT_ROWS": 3,
            "_DEPTH": 4,
            "_TASK_ROWS": 16,
            "_TASK_SHORTLIST": 5,
            "_TASK_COSINES": 3,
            "_BLOCK": 2,
        }.items():
            monkeypatch.setattr(ranking, name, number)


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("dimensions", [64, 100])
@pytest.mark.parametrize("seed", range(25))
def test_it_finds_what_a_plain_list_would(seed: int, dimensions: int) -> None:
    rng = random.Random(seed)
    entries = history(rng, rng.randint(0, 80), dimensions)
    index = split(rng, entries, dimensions)
    expected = newest(entries)
    assert len(index) == len(expected)
    assert sorted(index.names()) == sorted(expected)
    for _ in range(4):
        query = vector(rng, dimensions)
        everything = plainly(entries, query)
        prefix = rng.choice(["", *NAMES])
        since = START + timedelta(minutes=rng.choice([0, 50, 1000]))
        # Not the score of any image, which would be a matter of the last digit.
        min_score = rng.choice([-2, rng.uniform(-1, 1)])
        without = rng.choice([None, everything[0].name if everything else "none"])
        top = rng.choice([1, 3, 200])
        found = index.search(query, top=top, prefix=prefix, since=since, min_score=min_score, without=without)
        assert_same(found, plainly(entries, query, prefix, min_score, since, without)[:top])


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("top", [1, 3, 7])
@pytest.mark.parametrize("seed", range(8))
def test_the_pages_have_each_image_once_in_the_order_of_one_page(seed: int, top: int) -> None:
    rng = random.Random(seed)
    entries = history(rng, 60, DIMENSIONS)
    index = split(rng, entries, DIMENSIONS)
    query = vector(rng, DIMENSIONS)
    assert pages(index, query, top) == index.search(query, top=1000)


def pages(index: Index, query: list[float], top: int) -> list[Hit]:
    hits: list[Hit] = []
    while page := index.search(
        query, top=top, after=(hits[-1].score, hits[-1].name) if hits else None, before=len(hits)
    ):
        hits += page
        assert len(hits) <= 1000, "an image came twice"
        if len(page) < top:
            break
    return hits


@pytest.mark.parametrize("top", [1, 7, 50])
def test_the_pages_have_each_image_once_even_if_the_candidates_lack_some(
    monkeypatch: pytest.MonkeyPatch, top: int
) -> None:
    rng = random.Random(top)
    entries = [entry(f"{number:03}", 1, vector(rng, DIMENSIONS)) for number in range(200)]
    query = vector(rng, DIMENSIONS)
    exact = Index([segment(entries, DIMENSIONS)], dimensions=DIMENSIONS).search(query, top=1000)
    for name, number in {"EXACT_ROWS": 10, "_SHORTLIST": 50, "_CANDIDATES": 30, "_DEPTH": 20}.items():
        monkeypatch.setattr(ranking, name, number)
    index = Index([segment(entries[:150], DIMENSIONS), segment(entries[150:], DIMENSIONS)], dimensions=DIMENSIONS)
    found = pages(index, query, top)
    assert sorted(found) == sorted(exact)
    assert found[:20] == sorted(found[:20], key=lambda hit: (-hit.score, hit.name))
    assert found[20:] == sorted(found[20:], key=lambda hit: (-hit.score, hit.name))


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=4), max_size=12), st.text(max_size=3))
@settings(derandomize=True, database=None, deadline=None, max_examples=150)
def test_a_prefix_finds_the_names_that_begin_so(names: list[str], prefix: str) -> None:
    entries = [entry(name, 1, [1, 2, 3]) for name in dict.fromkeys(names)]
    half = len(entries) // 2
    index = Index([segment(entries[:half], 3)], dimensions=3)
    index.add(entries[half:])
    found = [hit.name for hit in index.search([1, 1, 1], top=100, prefix=prefix)]
    assert found == sorted(name for name in dict.fromkeys(names) if name.startswith(prefix))


def test_a_prefix_that_ends_in_the_last_character_finds_what_follows_it() -> None:
    names = ["a\U0010ffff", "a\U0010ffff\U0010ffff", "a\U0010ffffb", "a\U0010fffe", "b"]
    for index in (Index([segment([entry(name, 1, [1]) for name in names], 1)], dimensions=1), Index(dimensions=1)):
        index.add([entry(name, 1, [1]) for name in names])
        assert {hit.name for hit in index.search([1], top=9, prefix="a\U0010ffff")} == set(names[:3])


def test_half_of_a_character_is_no_prefix_and_no_name() -> None:
    index = Index([segment([entry("\U0001f600", 1, [1])], 1)], dimensions=1)
    assert index.search([1], top=9, prefix="\ud83d") == []
    assert index.vector_of("\ud83d") is None


def test_equal_vectors_have_equal_scores_wherever_they_are_and_go_by_name() -> None:
    rng = random.Random(1)
    numbers = [rng.gauss(0, 1) for _ in range(1024)]
    names = [f"{number:02}" for number in range(40)]
    index = Index([segment([entry(name, 1, numbers) for name in names[::3]], 1024)], dimensions=1024)
    index.add([entry(name, 1, numbers) for name in names])
    hits = index.search([rng.gauss(0, 1) for _ in range(1024)], top=30)
    assert [hit.name for hit in hits] == names[:30]
    assert len({hit.score for hit in hits}) == 1


def test_scores_that_float32_cannot_tell_apart_are_in_their_exact_order() -> None:
    rng = np.random.default_rng(1)
    numbers = rng.standard_normal(1024)
    base = entry("", 1, numbers.tolist())
    smallest = np.argsort(np.abs(numbers))[:30]
    entries = []
    for number in range(300):
        one = np.frombuffer(base.vector, np.uint16).copy()
        one[rng.choice(smallest, 10)] += 1
        entries.append(msgspec.structs.replace(base, name=f"{number:03}", vector=one.tobytes()))
    index = Index([segment(entries[:200], 1024)], dimensions=1024)
    index.add(entries[200:])
    for _ in range(20):
        query = rng.standard_normal(1024).tolist()
        best = sorted((cosine(query, one) for one in entries), reverse=True)[:3]
        assert [hit.score for hit in index.search(query, top=3)] == pytest.approx(best, abs=1e-14)


def test_an_image_is_nearest_to_itself_with_a_score_of_one() -> None:
    rng = random.Random(2)
    entries = [entry(str(number), 1, vector(rng, DIMENSIONS)) for number in range(30)]
    index = Index([segment(entries, DIMENSIONS)], dimensions=DIMENSIONS)
    own = index.vector_of("7")
    assert own is not None
    assert index.search(own, top=1)[0].score == pytest.approx(1, abs=1e-15)
    assert all(hit.name != "7" for hit in index.search(own, top=100, without="7"))


def test_an_empty_index_finds_nothing() -> None:
    for index in (Index(dimensions=3), Index([segment([], 3)], dimensions=3)):
        assert (len(index), index.search([1, 0, 0], top=5), list(index.names())) == (0, [], [])
        assert index.vector_of("a") is None
        assert [len(array) for array in index.states()] == [0, 0]


@pytest.mark.usefixtures("_either_way")
def test_nothing_is_found_once_all_are_gone() -> None:
    names = [str(number) for number in range(50)]
    index = Index([segment([entry(name, 1, [1, 2]) for name in names], 2)], dimensions=2)
    index.add([gone(name, 2) for name in names])
    assert (len(index), index.search([1, 1], top=100), index.vector_of("7")) == (0, [], None)
    index.add([entry("7", 1, [1, 2])])
    assert len(index) == 0
    index.add([entry("7", 3, [1, 2])])
    assert [hit.name for hit in index.search([1, 1], top=100)] == ["7"]


def test_the_vector_of_an_image_is_the_newest() -> None:
    index = Index([segment([entry("a", 1, [1, 0]), entry("b", 1, [0, 1]), gone("c", 1)], 2)], dimensions=2)
    index.add([entry("a", 2, [0, 1]), gone("b", 2)])
    assert [index.vector_of(name) for name in "abcd"] == [[0, 1], None, None, None]


@pytest.mark.parametrize("seed", range(5))
def test_the_states_are_those_of_all_images_in_the_order_of_their_hashes(seed: int) -> None:
    rng = random.Random(seed)
    entries = history(rng, 60, 3)
    hashes, seqs = split(rng, entries, 3).states()
    expected = sorted((name_hash(name.encode()), one.seq) for name, one in newest(entries).items())
    assert list(zip(hashes.tolist(), seqs.tolist(), strict=True)) == expected


def test_names_with_the_same_hash_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.search.segment.name_hash", lambda name: len(name))
    rng = random.Random(3)
    for seed in range(5):
        entries = history(random.Random(seed), 60, 3)
        index = split(rng, entries, 3)
        assert sorted(index.names()) == sorted(newest(entries))
        assert index.vector_of("no such name") is None
        assert_same(index.search([1, 1, 1], top=1000), plainly(entries, [1, 1, 1]))


def test_the_last_of_equal_seqs_counts() -> None:
    first, second = entry("a", 1, [1, 0]), entry("a", 1, [0, 1])
    indices = [
        Index([segment([first], 2), segment([second], 2)], dimensions=2),
        Index([segment([first], 2)], dimensions=2),
        Index(dimensions=2),
        Index(
            [Segment.open(b"".join(merge([segment([first], 2), segment([second], 2)])), dimensions=2)],
            dimensions=2,
        ),
    ]
    indices[1].add([second])
    indices[2].add([first, second])
    assert [index.vector_of("a") for index in indices] == [[0, 1]] * 4


def test_a_tail_that_grows_long_becomes_a_segment() -> None:
    rng = random.Random(4)
    index = Index(dimensions=8)
    for first in range(0, 9000, 1000):
        index.add([entry(str(number % 7000), number, vector(rng, 8)) for number in range(first, first + 1000)])
    assert len(index) == 7000
    assert len(index.search(vector(rng, 8), top=9000)) == 7000


def test_searches_see_a_whole_state_while_the_tail_grows() -> None:
    """Each round replaces all images by ones of the next seq."""
    names = [str(number) for number in range(30)]
    index = Index([segment([entry(name, 1, [1, 2, 3]) for name in names], 3)], dimensions=3)
    seen, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append({(hit.facts.width, len(hits)) for hits in [index.search([1, 1, 1], top=99)] for hit in hits})

    with ThreadPoolExecutor(3) as threads:
        looking = [threads.submit(look) for _ in range(3)]
        try:
            for seq in range(2, 400):
                index.add([entry(name, seq, [1, 2, 3]) for name in names])
        finally:
            done.set()
    assert [one.result() for one in looking] == [None] * 3
    assert all(len(state) == 1 and next(iter(state))[1] == 30 for state in seen)
    assert len(seen) > 3


@pytest.mark.parametrize("numbers", [[0, 0, 0], [math.nan, 1, 1], [math.inf, 1, 1], [1, 1], [1, 1, 1, 1], []])
def test_a_query_that_cannot_be_compared_is_refused(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match="query"):
        Index(dimensions=3).search(numbers, top=1)


def test_a_vector_of_another_length_is_refused_and_nothing_is_taken_in() -> None:
    index = Index(dimensions=3)
    with pytest.raises(ValueError, match="b does not have 3"):
        index.add([entry("a", 1, [1, 1, 1]), entry("b", 1, [1, 1])])
    assert len(index) == 0
    with pytest.raises(ValueError, match="2 dimensions"):
        Index([segment([], 2)], dimensions=3)


def test_one_core_searches_like_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    entries = [entry(f"{number:05}", 1, [rng.gauss(0, 1) for _ in range(64)]) for number in range(300)]
    index = Index([segment(entries, 64)], dimensions=64)
    for name, number in {"EXACT_ROWS": 10, "_SHORTLIST": 100, "_CANDIDATES": 20, "_TASK_ROWS": 64}.items():
        monkeypatch.setattr(ranking, name, number)
    query = vector(rng, 64)
    several = index.search(query, top=10)
    monkeypatch.setattr("shared.search.scan.cores", lambda: 1)
    assert index.search(query, top=10) == several


def test_it_says_how_much_memory_it_holds() -> None:
    rng = np.random.default_rng(6)
    entries = [entry(str(number), 1, rng.standard_normal(1024).tolist()) for number in range(100)]
    index = Index([segment(entries, 1024)], dimensions=1024)
    per_row = 2 * 1024 / 8 + 8 + 8 + 8 + 4 + 4 + 8 + 4 + 1
    assert index.resident_bytes == 100 * per_row + 2 * 4 * 1024


@given(st.integers(0, 2**32), st.sampled_from(["", *NAMES]))
@settings(max_examples=100, deadline=None)
def test_the_newest_come_in_pages_that_have_each_image_once(seed: int, prefix: str) -> None:
    rng = random.Random(seed)
    entries = history(rng, rng.randint(0, 60), 8)
    index, since = split(rng, entries, 8), START + timedelta(minutes=rng.randrange(100))
    expected = [
        (one.name, one.facts)
        for one in newest(entries).values()
        if one.facts and one.name.startswith(prefix) and one.facts.embedded_at >= since
    ]
    expected.sort(key=lambda one: (-one[1].embedded_at.timestamp(), one[0]))
    found, after = [], None
    while page := index.newest(top=rng.randint(1, 9), prefix=prefix, since=since, after=after):
        found += page
        after = (page[-1].second, page[-1].name)
    assert [(one.name, one.facts) for one in found] == expected
