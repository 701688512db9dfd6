"""A process that dies right before one of its writes to storage: the first, the second, and so on, one at a time."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

_READS = {"GET", "HEAD"}


class Died(BaseException):
    """The process was killed."""


def at_each_write(
    monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], object], act: Callable[[], object]
) -> Iterator[str]:
    """Prepare, act, and die before a write, until an act has no more writes to die before. Yields what was not sent."""
    for number in itertools.count():
        prepare()
        with dying(monkeypatch, after=number) as unsent, suppress(Died):
            act()
        if not unsent:
            return
        yield unsent[0]


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, *, after: int) -> Iterator[list[str]]:
    """During the block, all threads die at what they write after so many writes. Yields what they did not send."""
    unsent: list[str] = []
    writes = itertools.count()
    request = urllib3.PoolManager.request

    def deadly(pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
        if "models" not in url and method not in _READS and next(writes) >= after:
            unsent.append(f"{method} {urlsplit(url).path}")
            raise Died
        return request(pool, method, url, **options)

    with monkeypatch.context() as patch:
        patch.setattr(urllib3.PoolManager, "request", deadly)
        yield unsent
