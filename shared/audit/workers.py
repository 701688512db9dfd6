"""Threads for the many small writes of an audit."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

_THREADS = 16


class Workers:
    """A pool of threads with a short queue. Leaving it waits for all work, and raises what any of it raised."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="audit")
        self._running: deque[Future[None]] = deque()

    def do[**Arguments](
        self, work: Callable[Arguments, None], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> None:
        """Have one of the threads do it; waits while too much is queued."""
        if len(self._running) >= 4 * _THREADS:
            self._running.popleft().result()
        self._running.append(self._pool.submit(work, *arguments, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        for future in self._running:
            future.result()
