"""The stacks for all of these tests: a quiet one, one whose storage fails, and one whose model does."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from bench.site import Site, running
from local.faults import StorageFaults
from proof import faults
from proof.faults import Faulty


@pytest.fixture(scope="package")
def quiet_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(logs=tmp_path_factory.mktemp("quiet")) as site:
        yield site


@pytest.fixture(scope="package")
def switch() -> StorageFaults:
    return StorageFaults()


@pytest.fixture(scope="package")
def failing_site(switch: StorageFaults, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A stack with a proxy before storage, and a host that may be killed: what it had in hand is free again soon."""
    with running(logs=tmp_path_factory.mktemp("failing"), lease=2, storage_faults=switch) as site:
        yield site


@pytest.fixture(scope="package")
def model_faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[list[Faulty]]]:
    """The faults of the model, on a third stack, under way: a call that hangs does so for a minute."""
    # Not in the other thread: pytest makes its folder at the first call, and two at once take it from each other.
    logs = tmp_path_factory.mktemp("model")

    def outcomes() -> list[Faulty]:
        with running(logs=logs) as site:
            return faults.model_faults(site, images=20, times=10)

    with ThreadPoolExecutor(1) as background:
        yield background.submit(outcomes)


@pytest.fixture(scope="package", autouse=True)
def _begin_with_what_takes_longest(request: pytest.FixtureRequest) -> None:
    """Where its outcome is asked for at all."""
    if any("model_faults" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("model_faults")
