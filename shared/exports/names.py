"""Names in order, however many there are: sorted in runs that fit into memory, and merged when they are read.

Storage lists records nearly in the order of names, so runs hardly overlap, and few are open at once.
"""

import heapq
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from isal import isal_zlib

from shared.exports.report import Run

type Named = tuple[str, bool]
# No name that storage lists has this character.
_END = b"\0"
_WANTED, _OTHER = b"+", b"-"
_PIECE = 64 * 2**10


def packed(names: Sequence[Named]) -> bytes:
    """Names with a mark each, in their order, compressed."""
    content = b"".join((_WANTED if wanted else _OTHER) + name.encode() + _END for name, wanted in names)
    return isal_zlib.compress(content, 1)


def unpacked(content: bytes) -> Iterator[Named]:
    """What was :func:`packed`, a piece at a time."""
    inflate = zlib.decompressobj()
    rest = b""
    while not inflate.eof:
        *whole, rest = (rest + inflate.decompress(content, _PIECE)).split(_END)
        content = inflate.unconsumed_tail
        for entry in whole:
            yield entry[1:].decode(), entry[:1] == _WANTED
        if not (content or inflate.eof or whole):
            raise ValueError("The names are cut off.")


def merged(runs: Iterable[Run], read: Callable[[Run], bytes], after: str = "") -> Iterator[Named]:
    """All names of these runs after a name, in order, each once. A run is read when its first name is due."""
    waiting = sorted((run for run in runs if run.last > after), key=lambda run: run.first, reverse=True)
    opened: list[tuple[str, int, bool, Iterator[Named]]] = []
    last = after
    while waiting or opened:
        while waiting and (not opened or waiting[-1].first <= opened[0][0]):
            _advance(opened, unpacked(read(waiting.pop())), len(waiting))
        name, number, wanted, names = heapq.heappop(opened)
        if name > last:
            last = name
            yield name, wanted
        _advance(opened, names, number)


def missing(old: Iterable[str], new: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Each of the ``old`` names, and whether it is missing among the ``new`` ones. Both are in order."""
    at = next(new, None)
    for name in old:
        while at is not None and at < name:
            at = next(new, None)
        yield name, at != name


def _advance(opened: list[tuple[str, int, bool, Iterator[Named]]], names: Iterator[Named], number: int) -> None:
    for name, wanted in names:
        heapq.heappush(opened, (name, number, wanted, names))
        return
