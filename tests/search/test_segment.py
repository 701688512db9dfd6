"""A segment is read as it was written, and one that is damaged is never read."""

import mmap
import random
from pathlib import Path

import numpy as np
import pytest

from shared.search.entries import Entry
from shared.search.segment import HEADER_BYTES, DamagedSegment, Segment, build, extent, merge, reduced, states
from tests.search.images import NAMES, entry, gone, newest, segment, vector

DIMENSIONS = 100


def entries(seed: int, count: int = 12) -> list[Entry]:
    """Some images, of which some are gone."""
    rng = random.Random(seed)
    names = rng.sample([one + other for one in NAMES for other in NAMES if one != "a/" or other != "b"], count)
    return [
        gone(name, seed) if rng.random() < 0.3 else entry(name, seed, vector(rng, DIMENSIONS), minutes=rng.randrange(9))
        for name in names
    ]


def content(one: Segment) -> list[tuple[str, int, bytes]]:
    rows = [(one.name(row).decode(), int(one.seqs[row]), one.vectors[row].tobytes()) for row in range(len(one))]
    left = [(one.gone_name(row).decode(), int(seq), b"") for row, seq in enumerate(one.gone_seqs)]
    return rows + left


def stated(some: list[Entry]) -> list[tuple[str, int, bytes]]:
    there = [one for one in some if one.facts]
    return [
        (one.name, one.seq, one.vector)
        for part in (there, [one for one in some if not one.facts])
        for one in sorted(part, key=lambda one: one.name.encode())
    ]


@pytest.mark.parametrize("seed", range(10))
def test_it_holds_what_it_was_built_from_in_the_order_of_names(seed: int) -> None:
    some = entries(seed)
    one = segment(some, DIMENSIONS)
    assert content(one) == stated(some)
    facts = {one.name: one.facts for one in some}
    assert [one.facts(row) for row in range(len(one))] == [facts[one.name(row).decode()] for row in range(len(one))]


def test_the_order_of_the_entries_does_not_matter() -> None:
    some = entries(1)
    assert b"".join(build(some, dimensions=DIMENSIONS)) == b"".join(build(some[::-1], dimensions=DIMENSIONS))


@pytest.mark.parametrize("dimensions", [1, 7, 8, 63, 64, 65, 100, 1024])
def test_vectors_of_any_length_have_two_bits_for_each_number_and_no_more(dimensions: int) -> None:
    rng = random.Random(dimensions)
    some = [entry(str(number), 1, [rng.gauss(0, 1) for _ in range(dimensions)]) for number in range(9)]
    one = Segment.open(
        b"".join(build(some, dimensions=dimensions, centre=np.zeros(dimensions, np.float32))), dimensions=dimensions
    )
    numbers = one.vectors.view(np.float16).astype(np.float32)
    usual = 1.248 * np.abs(numbers).mean(axis=0)
    for bits, expected in (
        (np.ascontiguousarray(one.signs.T), numbers > 0),
        (one.rests, numbers > np.where(numbers > 0, usual, -usual)),
    ):
        unpacked = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
        assert np.array_equal(unpacked[:, :dimensions], expected)
        assert not unpacked[:, dimensions:].any()


def test_the_centre_is_the_mean_or_what_was_given() -> None:
    some = [entry("a", 1, [1, 0]), entry("b", 1, [0, 1])]
    assert segment(some, 2).centre.tolist() == [0.5, 0.5]
    given = np.array([0.25, 1], np.float32)
    one = Segment.open(b"".join(build(some, dimensions=2, centre=given)), dimensions=2)
    assert one.centre.tolist() == [0.25, 1]
    assert [one.signs[0, row] for row in (0, 1)] == [1, 0]
    assert one.spreads.tolist() == pytest.approx([0.5, 0.5])


def test_it_may_be_empty_or_only_of_what_is_gone() -> None:
    assert content(segment([], DIMENSIONS)) == []
    assert content(segment([gone("a", 3)], DIMENSIONS)) == [("a", 3, b"")]


def test_every_damaged_byte_is_noticed() -> None:
    whole = b"".join(build(entries(2, count=4), dimensions=DIMENSIONS))
    rng = random.Random(2)
    for position in [*range(128), *rng.sample(range(len(whole)), 500)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        with pytest.raises(DamagedSegment):
            Segment.open(damaged, dimensions=DIMENSIONS)


def test_every_missing_or_surplus_byte_is_noticed() -> None:
    whole = b"".join(build(entries(3, count=4), dimensions=DIMENSIONS))
    for length in {*range(130), *range(0, len(whole), 41), *range(len(whole) - 130, len(whole))}:
        with pytest.raises(DamagedSegment):
            Segment.open(whole[:length], dimensions=DIMENSIONS)
    with pytest.raises(DamagedSegment, match="instead of"):
        Segment.open(whole + bytes(64), dimensions=DIMENSIONS)


def test_vectors_of_another_length_are_refused() -> None:
    whole = b"".join(build(entries(4), dimensions=DIMENSIONS))
    with pytest.raises(DamagedSegment, match="100 numbers, not 64"):
        Segment.open(whole, dimensions=64)


def test_a_segment_in_a_file_keeps_in_memory_what_every_search_needs(tmp_path: Path) -> None:
    some = entries(5)
    path = tmp_path / "segment"
    path.write_bytes(b"".join(build(some, dimensions=DIMENSIONS)))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    one = Segment.open(mapped, dimensions=DIMENSIONS)
    assert content(one) == stated(some)
    assert all(array.base is None for array in (one.seqs, one.hashes, one.times, one.scales, one.centre, one.spreads))
    assert not any(np.shares_memory(np.frombuffer(mapped, np.uint8), array) for array in (one.signs, one.rests))
    assert one.vectors.base is not None


@pytest.mark.parametrize("seed", range(10))
def test_a_merge_has_of_each_name_what_is_newest(seed: int) -> None:
    rng = random.Random(seed)
    histories = [entries(number, count=40) for number in range(4)]
    rng.shuffle(histories)
    merged = b"".join(merge([segment(some, DIMENSIONS) for some in histories]))
    everything = [one for some in histories for one in some]
    there = newest(everything)
    left = {one.name: one for one in sorted(everything, key=lambda one: one.seq) if one.name not in there}
    expected = [*there.values(), *left.values()]
    assert content(Segment.open(merged, dimensions=DIMENSIONS)) == stated(expected)
    # As if it had been built from these entries.
    assert b"".join(build(expected, dimensions=DIMENSIONS)) == merged


@pytest.mark.parametrize("seed", range(5))
def test_a_segment_that_loses_some_entries_is_as_if_it_had_been_built_without_them(seed: int) -> None:
    rng = random.Random(seed)
    whole = segment(entries(seed), DIMENSIONS)
    # Rows come first, then what is gone, as it states them.
    ordered = sorted(entries(seed), key=lambda one: (one.facts is None, one.name.encode()))
    kept = [rng.random() < 0.5 for _ in ordered]
    expected = [one for one, is_kept in zip(ordered, kept, strict=True) if is_kept]
    assert b"".join(reduced(whole, np.array(kept))) == b"".join(build(expected, dimensions=DIMENSIONS))


def test_a_merge_of_many_rows_reads_them_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.search.segment._BLOCK", 7)
    monkeypatch.setattr("shared.search.segment._SAMPLE", 10)
    some = [entry(f"{number:03}", 1, vector(random.Random(number), DIMENSIONS)) for number in range(100)]
    halves = [segment(some[::2], DIMENSIONS), segment(some[1::2], DIMENSIONS)]
    assert content(Segment.open(b"".join(merge(halves)), dimensions=DIMENSIONS)) == stated(some)


def test_what_no_segment_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="one entry for each name"):
        build([entry("a", 1, [1]), gone("a", 2)], dimensions=1)
    with pytest.raises(ValueError, match="vector of a has 2 bytes instead of 4"):
        build([entry("a", 1, [1])], dimensions=2)
    with pytest.raises(ValueError, match="centre has 3 numbers"):
        build([], dimensions=2, centre=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="9,000 numbers are not supported"):
        build([], dimensions=9000)
    monkeypatch.setattr("shared.search.segment._MOST_NAMES", 3)
    with pytest.raises(ValueError, match="make several"):
        build([gone("abcd", 1)], dimensions=2)


@pytest.mark.parametrize("seed", range(5))
def test_what_it_says_of_each_image_is_read_without_its_vectors(seed: int) -> None:
    some = entries(seed)
    whole = b"".join(build(some, dimensions=DIMENSIONS))
    found = extent(whole[:HEADER_BYTES])
    assert (found.rows, found.gone) == (
        sum(one.facts is not None for one in some),
        sum(one.facts is None for one in some),
    )
    assert found.states < len(whole) - found.rows * DIMENSIONS * 2
    start = whole[: found.states]
    said = {(one.name.encode(), one.seq, one.facts is None) for one in some}
    assert set(states(start)) == said
    for spoilt in (start[:-1], start[:100] + b"x" + start[101:], b"x" + start[1:]):
        with pytest.raises(DamagedSegment):
            list(states(spoilt))
