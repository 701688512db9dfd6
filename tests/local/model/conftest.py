"""The stand-in, one for each file of these tests."""

from collections.abc import Iterator

import pytest

from tests.local.model.client import Client, serve


@pytest.fixture(scope="module")
def served() -> Iterator[Client]:
    with serve() as client:
        yield client


@pytest.fixture
def model(served: Client) -> Client:
    """Give the stand-in as it is at its start."""
    served.http.delete("/admin/behaviour")
    served.http.delete("/admin/calls")
    return served
