"""Queries are asked in this process, as in one of their own."""

from collections.abc import Iterator

import pytest

from tests.functions import start_anew


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """Give each test an application of its own, as a new process has."""
    yield
    start_anew()
