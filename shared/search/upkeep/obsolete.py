"""Which entries of the segments change nothing any more, so that a segment may do without them.

That is an entry of which a later one of the same image is in a segment, and one that says that an image is gone of
which no segment says anything else, once nothing older can come any more. Two compactors agree which of equal entries
is the last, since no change of the manifest brings segments into another order.
"""

import numpy as np
from numpy.typing import NDArray

from shared.search.manifest import IndexBlobs, ListedSegment
from shared.search.scan import Mask
from shared.search.segment import name_hash


class Entries:
    """The names and states of all entries in segments, in 16 bytes an entry: names by 64 bits of a hash.

    Two of a million images share these bits in one of 40 million spaces. One of them is not found then, until an audit
    says it once more.
    """

    def __init__(self, index: IndexBlobs) -> None:
        self._index = index
        self._read: dict[str, NDArray[np.uint64]] = {}

    def read(self, listed: ListedSegment) -> None:
        """Read a segment, unless it is known; raises :class:`~shared.search.manifest.DamagedSegment`."""
        if listed.id not in self._read:
            numbers = (
                number
                for name, seq, is_gone in self._index.states(listed)
                for number in (name_hash(name.encode()), 2 * seq + is_gone)
            )
            self._read[listed.id] = np.fromiter(numbers, np.uint64).reshape(-1, 2)

    def obsolete(self, segments: tuple[ListedSegment, ...], *, gone_before: int) -> list[Mask]:
        """Of each of all listed segments, which were read, which of its entries are obsolete: in the order it has them.

        ``gone_before`` is a moment, in milliseconds since 1970: of what is gone since then something older may come.
        """
        if not segments:
            return []
        parts = [self._read[listed.id] for listed in segments]
        hashes, states = np.concatenate(parts).T
        # Of each name the last comes last; of equal ones that in the last segment.
        order = np.lexsort((states, hashes))
        differs = hashes[order][1:] != hashes[order][:-1]
        is_last, is_first = np.ones((2, len(order)), np.bool_)
        is_last[:-1] = is_first[1:] = differs
        is_gone = (states % 2 == 1) & (states // 2 < max(gone_before, 0))
        obsolete = np.empty(len(order), np.bool_)
        obsolete[order] = ~is_last | (is_first & is_gone[order])
        return np.split(obsolete, np.cumsum([len(part) for part in parts])[:-1])
