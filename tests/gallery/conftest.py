"""A process of its own for each test, as far as a test can tell."""

from collections.abc import Iterator

import pytest

from tests.functions import start_anew


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    start_anew()
    yield
    start_anew()
