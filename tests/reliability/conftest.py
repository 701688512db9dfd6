"""Two stacks for all of these tests: a quiet one, and one whose parts fail."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from bench.site import Site, running
from local.faults import StorageFaults
from proof import scenarios
from proof.scenarios import Faulty


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
def model_faults(quiet_site: Site) -> Iterator[Future[list[Faulty]]]:
    """Under way from the first test that asks for it: a call that hangs does so for a minute."""
    with ThreadPoolExecutor(1) as background:
        yield background.submit(scenarios.model_faults, quiet_site, images=20, times=10)
