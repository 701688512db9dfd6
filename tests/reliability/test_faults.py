"""Storage that fails or loses answers, and a host that dies, cost time, never an image."""

import pytest

from bench.site import Site
from local.faults import StorageFaults
from proof import faults, kills
from proof.faults import STORAGE_FAULTS, Faulty


@pytest.fixture(scope="module")
def storage_faults(failing_site: Site, switch: StorageFaults) -> list[Faulty]:
    return faults.storage_faults(failing_site, switch, images=8, share=1, times=3)


@pytest.mark.parametrize("kind", STORAGE_FAULTS)
def test_a_fault_of_storage_loses_no_image_and_costs_no_second_embedding(
    storage_faults: list[Faulty], kind: str
) -> None:
    [outcome] = [outcome for outcome in storage_faults if outcome.kind == kind]
    assert outcome == Faulty(kind, images=8, met=3, twice=0, lost=0)


def test_a_host_that_is_killed_again_and_again_loses_no_image(failing_site: Site) -> None:
    outcome = kills.kills(failing_site, images=60, kills=6)
    assert outcome.at_work > 0
    assert outcome.lost == 0
