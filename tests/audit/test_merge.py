"""Three listings become one stream: in any order of names, for any names, and wherever it stops and resumes."""

import hashlib
import math
import random
from collections.abc import Generator

import pytest

from shared.audit.merge import ORDERS, Found, ListedImage, Merge, OutOfOrder
from shared.audit.report import Cursor
from shared.storage.listing import Listed, Page
from shared.storage.names import record_key

FOLDER = "model"
# Names that are prefixes of one another, around the characters before, at and after the dot of the record's suffix.
PARTS = ["a", "a-b", "a.b", "a/b", "a.json", "a b", "A", "é", "\uff01", "\U0001f600", "a/", "~", "x" * 500, "x" * 1000]


def names(seed: int, count: int = 60) -> list[str]:
    rng = random.Random(seed)
    # In an order that is the same in every run, as that of a set would not be.
    generated = dict.fromkeys("".join(rng.choices(PARTS, k=rng.randint(1, 3)))[:1024] for _ in range(count))
    return [name for name in generated if len(name.encode("utf-16-le")) <= 2048]


def pages(blobs: list[Listed], order: int, marker: str, size: int = 7) -> Generator[Page]:
    """A listing as storage returns it; its markers are numbers of blobs."""
    blobs = sorted(blobs, key=lambda blob: ORDERS[order](blob.name))
    for start in range(int(marker or 0), len(blobs), size):
        yield Page(str(start), blobs[start : start + size], str(start + size))


def merged(
    images: list[str], records: list[str], failures: list[str], *, order: int, stopping: bool = False
) -> dict[str, tuple[bool, bool, bool]]:
    """Which keys have an image, a record and a failure. If ``stopping``, the merge stops as often as it can."""
    cursor = Cursor()
    found: dict[str, tuple[bool, bool, bool]] = {}

    def listed(stored: list[str]) -> list[Listed]:
        return [Listed(record_key(FOLDER, name), "", {}) for name in stored]

    while not cursor.judged:
        merge = Merge(
            pages([Listed(name, name, {name: ""}) for name in images], order, cursor.images),
            pages(listed(records), order, cursor.records),
            pages(listed(failures), order, cursor.failures),
            cursor=cursor,
            order=order,
            folder=FOLDER,
            mark="".join,
        )
        for one in merge.until(0 if stopping else math.inf):
            key = one.key(FOLDER)
            assert key not in found, "a name came twice"
            found[key] = (one.image is not None, one.record is not None, one.failure is not None)
            if one.image is not None:
                assert one.image == (name := one.image.name, name, name), "an image got what is of another"
    return found


@pytest.mark.parametrize("order", range(len(ORDERS)))
@pytest.mark.parametrize("seed", range(20))
def test_every_image_is_paired_with_its_own_records(order: int, seed: int) -> None:
    rng = random.Random(seed)
    everything = names(seed)
    images, records, failures = ([name for name in everything if rng.random() < 0.6] for _ in range(3))
    assert merged(images, records, failures, order=order) == {
        record_key(FOLDER, name): (name in images, name in records, name in failures)
        for name in everything
        if name in images or name in records or name in failures
    }


@pytest.mark.parametrize("order", range(len(ORDERS)))
@pytest.mark.parametrize("seed", range(5))
def test_a_merge_resumes_where_it_stopped(monkeypatch: pytest.MonkeyPatch, order: int, seed: int) -> None:
    monkeypatch.setattr("shared.audit.merge._CLOCK_INTERVAL", 2)
    everything = names(seed)
    whole = merged(everything, everything[::2], everything[::3], order=order)
    assert merged(everything, everything[::2], everything[::3], order=order, stopping=True) == whole


def test_few_images_are_held_back_however_many_come_in_between() -> None:
    # Only "a" is held back until all names that continue with a dash have passed.
    many = [f"a-{number:06}" for number in range(20_000)]
    cursor = Cursor()
    merge = Merge(
        pages([Listed(name, "", {}) for name in ["a", *many]], 0, "", 5000),
        pages([], 0, ""),
        pages([], 0, ""),
        cursor=cursor,
        order=0,
        folder=FOLDER,
    )
    stream = merge.until(math.inf)
    assert next(stream).image == ListedImage("a-000000", "")
    assert len(merge._images.pending()) <= 3
    assert [found.image for found in stream][-1] == ListedImage("a", "")


@pytest.mark.parametrize(("listed", "right"), [(["\uff01", "\U0001f600"], 0), (["\U0001f600", "\uff01"], 1)])
def test_emoji_and_full_width_letters_distinguish_two_orders(listed: list[str], right: int) -> None:
    def stream(order: int) -> list[Found]:
        page = Page("", [Listed(name, "", {}) for name in listed], "")
        empty = Page("", [], "")
        merge = Merge(iter([page]), iter([empty]), iter([empty]), cursor=Cursor(), order=order, folder=FOLDER)
        return list(merge.until(math.inf))

    assert len(stream(right)) == 2
    with pytest.raises(OutOfOrder):
        stream(1 - right)


def test_names_that_are_cut_to_the_same_start_are_paired_with_their_own_records() -> None:
    stem = "x" * 1015
    images = [stem + end for end in ("a", "b", "-")]
    keys = {name: record_key(FOLDER, name) for name in images}
    assert all(hashlib.sha256(name.encode()).hexdigest() in key for name, key in keys.items())
    assert set(merged(images, images, [], order=0).values()) == {(True, True, False)}
