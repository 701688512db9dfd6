"""Threads for the many small writes of an audit."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

_THREADS = 16


class Workers:
    """Threads for many small writes, with a bounded backlog. The end of the block waits for all and raises errors."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="audit")
        self._running: deque[Future[None]] = deque()

    def submit[**Arguments](
        self, work: Callable[Arguments, None], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> None:
        """Run ``work`` in one of the threads. Blocks while the backlog is full, and raises what earlier work raised."""
        if len(self._running) >= 4 * _THREADS:
            self._running.popleft().result()
        self._running.append(self._pool.submit(work, *arguments, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        for future in self._running:
            future.result()
