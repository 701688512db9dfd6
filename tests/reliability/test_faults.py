"""What fails, answers wrongly, loses answers or dies costs time, never an image."""

from concurrent.futures import Future

import pytest

from bench.site import Site
from local.faults import StorageFaults
from proof import scenarios
from proof.scenarios import MODEL_FAULTS, STORAGE_FAULTS, Faulty

# Those of the model take longest, most of it waiting: the other tests run meanwhile.
pytestmark = pytest.mark.usefixtures("model_faults")


@pytest.fixture(scope="module")
def storage_faults(failing_site: Site, switch: StorageFaults) -> list[Faulty]:
    return scenarios.storage_faults(failing_site, switch, images=20, share=1, times=3)


@pytest.mark.parametrize("kind", STORAGE_FAULTS)
def test_a_fault_of_storage_loses_no_image_and_costs_no_second_embedding(
    storage_faults: list[Faulty], kind: str
) -> None:
    assert _of(storage_faults, kind) == Faulty(kind, images=20, met=3, twice=0, lost=0)


def test_a_host_that_is_killed_again_and_again_loses_no_image(failing_site: Site) -> None:
    outcome = scenarios.kills(failing_site, images=60, kills=6)
    assert outcome.at_work > 0
    assert outcome.lost == 0


@pytest.mark.parametrize("kind", MODEL_FAULTS)
def test_a_fault_of_the_model_loses_no_image_and_costs_no_second_embedding(
    model_faults: Future[list[Faulty]], kind: str
) -> None:
    outcome = _of(model_faults.result(), kind)
    assert outcome.met > 0
    assert (outcome.lost, outcome.twice) == (0, 0)


def _of(outcomes: list[Faulty], kind: str) -> Faulty:
    (outcome,) = [outcome for outcome in outcomes if outcome.kind == kind]
    return outcome
