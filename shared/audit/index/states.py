"""What the index says of each image, in 16 bytes an image, under a hash of the key of its record.

A state is one number, so that the larger of two counts: twice the entry's ``seq``, and one more if the image is gone.
"""

import hashlib
from collections.abc import Collection, Generator, Iterable
from typing import TYPE_CHECKING

from shared.search.entries import DamagedEntries
from shared.search.manifest import DamagedSegment, IndexBlobs, ListedSegment, LogMissing, Manifest, Version
from shared.storage.names import record_key

if TYPE_CHECKING:
    import numpy as np

type Numbers = np.ndarray[tuple[int], np.dtype[np.uint64]]


def hash_of(key: str) -> int:
    """64 bits of a hash of a record's key. Two of a million images share them in one of 40 million spaces."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())


def state_of(seq: int, *, is_gone: bool) -> int:
    """The state that an entry says."""
    return 2 * seq + is_gone


class States:
    """The states of all images in the index of ``folder``, as of the last :meth:`refresh`.

    ``damaged_logs`` and ``damaged_segments`` are those that could not be read: they count as empty.
    """

    def __init__(self, index: IndexBlobs, folder: str) -> None:
        import numpy as np

        self._index = index
        self._folder = folder
        self._hashes: Numbers = np.empty(0, np.uint64)
        self._states: Numbers = np.empty(0, np.uint64)
        self._recent: dict[int, int] = {}
        self._segments: set[str] = set()
        self._ends: dict[str, int] = {}
        self.damaged_logs: set[str] = set()
        self.damaged_segments: dict[ListedSegment, str] = {}
        self.manifest = Manifest(folder=folder)

    def refresh(self) -> None:
        """Read what is new in the index."""
        version = self._index.read()
        while (newer := self._follow(version)) is not None:
            version = newer
        self.manifest = version.manifest

    def of(self, hash_: int) -> int:
        """The state of the image under this hash; 0 if the index knows nothing of it."""
        import numpy as np

        at = int(np.searchsorted(self._hashes, np.uint64(hash_)))
        settled = int(self._states[at]) if at < len(self._hashes) and int(self._hashes[at]) == hash_ else 0
        return max(settled, self._recent.get(hash_, 0))

    def of_name(self, name: str) -> int:
        """The state of the image with this name."""
        return self.of(hash_of(record_key(self._folder, name)))

    def count(self) -> int:
        """How many images the index finds."""
        self._settle()
        return int((self._states % 2 == 0).sum())

    def found_beside(self, listed: Numbers) -> Numbers:
        """The hashes of images that the index finds and that are not among the ``listed`` ones."""
        import numpy as np

        self._settle()
        return np.setdiff1d(self._hashes[self._states % 2 == 0], listed)

    def names(self, hashes: Collection[int]) -> set[str]:
        """The names of the images under these hashes: reads the index once more."""
        version: Version | None = self._index.read()
        found: set[str] = set()
        while version is not None:
            newer, found = None, set()
            for names in self._names(version.manifest):
                try:
                    found |= {name for name in names if hash_of(record_key(self._folder, name)) in hashes}
                except (DamagedSegment, DamagedEntries, LogMissing):
                    # Of what is damaged nothing is found, so none of these names are in it.
                    if newer := self._newer(version):
                        break
            version = newer
        return found

    def _names(self, manifest: Manifest) -> Generator[Iterable[str]]:
        """The names in each segment and each log."""
        for listed in manifest.segments:
            yield (name for name, _, _ in self._index.states(listed))
        for log in manifest.logs:
            yield (entry.name for entries, _ in self._index.entries(log.id, log.start) for entry in entries)

    def _follow(self, version: Version) -> Version | None:
        """Read what this manifest lists; returns a newer one if something is gone that it lists."""
        for listed in version.manifest.segments:
            if listed.id not in self._segments and listed not in self.damaged_segments:
                try:
                    self._add(listed)
                except DamagedSegment as error:
                    if newer := self._newer(version):
                        return newer
                    self.damaged_segments[listed] = str(error)
        for log in version.manifest.logs:
            try:
                start = max(log.start, self._ends.get(log.id, 0))
                for entries, end in self._index.entries(log.id, start) if log.id not in self.damaged_logs else ():
                    for entry in entries:
                        hash_ = hash_of(record_key(self._folder, entry.name))
                        state = state_of(entry.seq, is_gone=entry.facts is None)
                        self._recent[hash_] = max(state, self._recent.get(hash_, 0))
                    self._ends[log.id] = end
            except LogMissing:
                if newer := self._newer(version):
                    return newer
            except DamagedEntries:
                self.damaged_logs.add(log.id)
        return None

    def _newer(self, version: Version) -> Version | None:
        newer = self._index.read()
        return None if newer == version else newer

    def _add(self, listed: ListedSegment) -> None:
        """Add the states of a segment."""
        import numpy as np

        numbers = np.fromiter(
            (
                number
                for name, seq, is_gone in self._index.states(listed)
                for number in (hash_of(record_key(self._folder, name)), state_of(seq, is_gone=is_gone))
            ),
            np.uint64,
        ).reshape(-1, 2)
        self._join(numbers[:, 0], numbers[:, 1])
        self._segments.add(listed.id)

    def _settle(self) -> None:
        """Move what was read of the logs to the rest."""
        import numpy as np

        recent, self._recent = self._recent, {}
        count = len(recent)
        self._join(np.fromiter(recent.keys(), np.uint64, count), np.fromiter(recent.values(), np.uint64, count))

    def _join(self, hashes: Numbers, states: Numbers) -> None:
        """Add states in the order of their hashes: of those with the same hash the largest one stays."""
        import numpy as np

        hashes, states = np.concatenate([self._hashes, hashes]), np.concatenate([self._states, states])
        order = np.lexsort((states, hashes))
        hashes, states = hashes[order], states[order]
        last = np.append(hashes[1:] != hashes[:-1], True)[: len(hashes)]
        self._hashes, self._states = hashes[last], states[last]
