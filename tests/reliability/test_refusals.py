"""A wrong setting, for which the model refuses everything, costs time until it is mended, and no image or record."""

from concurrent.futures import Future

import pytest

from proof.refusals import CAUSES, Cause, Refusals


@pytest.mark.parametrize("cause", CAUSES)
def test_a_model_that_refuses_everything_for_a_while_has_refused_nothing(
    refused: Future[list[Refusals]], cause: Cause
) -> None:
    [outcome] = [outcome for outcome in refused.result() if outcome.cause == cause]
    assert outcome.refused > 0
    assert outcome.noticed
    assert (outcome.failures, outcome.removed, outcome.lost) == (0, 0, 0)
