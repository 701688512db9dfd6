"""A model that fails, answers wrongly or not at all costs time, never an image. This has been under way for a while."""

from concurrent.futures import Future

import pytest

from proof.faults import MODEL_FAULTS, Faulty


@pytest.mark.parametrize("kind", MODEL_FAULTS)
def test_a_fault_of_the_model_loses_no_image_and_costs_no_second_embedding(
    model_faults: Future[list[Faulty]], kind: str
) -> None:
    [outcome] = [outcome for outcome in model_faults.result() if outcome.kind == kind]
    assert outcome.met > 0
    assert (outcome.lost, outcome.twice) == (0, 0)
