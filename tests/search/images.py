"""Made-up images for the tests of search, and what a search must find among them, worked out one by one."""

import math
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from shared.search.entries import Entry, Facts, packed
from shared.search.segment import Segment, build

START = datetime(2026, 11, 1, tzinfo=UTC)
# Prefixes of one another, around the last characters of one, two, three and four bytes in UTF-8.
NAMES = [
    "a",
    "a/",
    "a/b",
    "a b",
    "b",
    "é",
    "\x7f",
    "\u07ff",
    "\uffff",
    "\U00010000",
    "\U0001f600",
    "\U0010ffff",
    "z" * 99,
]


def vector(rng: random.Random, dimensions: int) -> list[float]:
    """One of few directions with noise, so that some are nearly alike and some the same."""
    direction = random.Random(rng.randrange(4))
    noise = rng.choice([0, 0.01, 1])
    return [1 + direction.gauss(0, 1) + noise * rng.gauss(0, 1) for _ in range(dimensions)]


def entry(name: str, seq: int, numbers: Sequence[float], minutes: int = 0) -> Entry:
    facts = Facts(
        etag=f"0x{seq}",
        media_type="image/png",
        width=seq,
        height=1,
        embedded_at=START + timedelta(minutes=minutes),
        text=name,
    )
    return Entry(name=name, seq=seq, facts=facts, vector=packed(numbers))


def gone(name: str, seq: int) -> Entry:
    return Entry(name=name, seq=seq)


def segment(entries: Iterable[Entry], dimensions: int) -> Segment:
    return Segment.open(b"".join(build(list(entries), dimensions=dimensions)), dimensions=dimensions)


def newest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """What counts of a history in which no seq of a name comes twice: all that is there."""
    latest: dict[str, Entry] = {}
    for one in entries:
        if one.name not in latest or one.seq > latest[one.name].seq:
            latest[one.name] = one
    return {name: one for name, one in latest.items() if one.facts is not None}


def cosine(query: Sequence[float], one: Entry) -> float:
    """Exact but for the last digits."""
    numbers = np.frombuffer(one.vector, "<f2").tolist()
    return math.sumprod(query, numbers) / math.hypot(*query) / math.hypot(*numbers)
