"""One bound, in bytes, around everything large that a process holds, whoever asked for it."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """So many bytes to be held at once. Safe to call from many threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int, *, deadline: float = math.inf) -> Iterator[None]:
        """Hold ``size`` bytes for the block; waits until they are free. More than there are takes all there are.

        Raises ``TimeoutError`` if they are not free by ``deadline`` (``time.monotonic``).
        """
        size = min(size, self._size)
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= size, left):
                raise TimeoutError(f"No {size:,} bytes of memory came free in time.")
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
