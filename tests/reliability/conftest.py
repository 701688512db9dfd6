"""The stacks for all of these tests, and the scenarios that are under way on stacks of their own meanwhile."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from bench.site import Site, running, running_together
from local.faults import StorageFaults
from proof import APP, faults, hang, quota, refusals, sharing
from proof.faults import Faulty
from proof.hang import Hang
from proof.quota import Throttled
from proof.refusals import Refusals
from proof.sharing import Sharing


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
def background() -> Iterator[ThreadPoolExecutor]:
    """Scenarios that mostly wait, under way while others run: what a test gets of them is a future."""
    with ThreadPoolExecutor(3) as threads:
        yield threads


# The first call of mktemp makes the folder of the whole run, and two at once would each make one. So the fixtures below
# call it here, and not in the threads that they start.


@pytest.fixture(scope="package")
def model_faults(background: Executor, tmp_path_factory: pytest.TempPathFactory) -> Future[list[Faulty]]:
    """Takes more than a minute, since a call that hangs does so for that long."""
    logs = tmp_path_factory.mktemp("model")

    def outcomes() -> list[Faulty]:
        with running(logs=logs) as site:
            return faults.model_faults(site, images=20, times=10)

    return background.submit(outcomes)


@pytest.fixture(scope="package")
def hung(background: Executor, tmp_path_factory: pytest.TempPathFactory) -> Future[Hang]:
    """A model that hangs for longer than functionTimeout, which a process that waits for it would not outlive."""
    logs = tmp_path_factory.mktemp("hang")

    def outcome() -> Hang:
        with running(app=APP, settings=hang.FAST, lease=hang.LEASE, logs=logs) as site:
            return hang.hang(site, images=30, minutes=6)

    return background.submit(outcome)


@pytest.fixture(scope="package")
def refused(background: Executor, tmp_path_factory: pytest.TempPathFactory) -> Future[list[Refusals]]:
    logs = tmp_path_factory.mktemp("refusals")
    file = logs / "settings.json"

    def outcomes() -> list[Refusals]:
        with running(app=APP, settings=refusals.settings(file), lease=refusals.LEASE, logs=logs) as site:
            return [refusals.refusals(site, file, cause=cause, images=6) for cause in refusals.CAUSES]

    return background.submit(outcomes)


@pytest.fixture(scope="package")
def shared(background: Executor, tmp_path_factory: pytest.TempPathFactory) -> Future[Sharing]:
    logs = tmp_path_factory.mktemp("sharing")

    def outcome() -> Sharing:
        with running_together(sharing.CONTAINERS, app=APP, settings=sharing.FAST, logs=logs) as sites:
            return sharing.sharing(sites, images=8, nights=2)

    return background.submit(outcome)


@pytest.fixture(scope="package")
def throttled(background: Executor, tmp_path_factory: pytest.TempPathFactory) -> Future[list[Throttled]]:
    logs = tmp_path_factory.mktemp("throttled")

    def outcomes() -> list[Throttled]:
        with running(app=APP, settings=quota.STANDING, logs=logs) as site:
            return [quota.throttled(site, images=10, retry_after=seconds) for seconds in quota.WAITS]

    return background.submit(outcomes)


@pytest.fixture(scope="package", autouse=True)
def _begin_with_what_takes_longest(request: pytest.FixtureRequest) -> None:
    """Start the slowest scenarios first, but only those that a selected test asks for."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in ("hung", "model_faults", "shared", "refused", "throttled"):
        if name in asked:
            request.getfixturevalue(name)
