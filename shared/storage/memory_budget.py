"""One bound, in bytes, around everything large that a process holds, whoever asked for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """So many bytes to be held at once. Safe to call from many threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes for the block; waits until they are free. More than there are takes all there are."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            self.release(size)

    def try_reserve(self, size: int) -> bool:
        """Hold ``size`` bytes if they are free now; the caller releases them."""
        with self._changed:
            if size > self._free:
                return False
            self._free -= size
            return True

    def release(self, size: int) -> None:
        """Give back what :meth:`try_reserve` has taken."""
        with self._changed:
            self._free += size
            self._changed.notify_all()
