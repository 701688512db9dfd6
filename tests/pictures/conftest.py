"""Both preparations of pictures."""

import pytest

from shared.pictures.limits import Limits
from tests.pictures.hostile import LIMITS, LIMITS_AS_IT_IS


@pytest.fixture(params=[LIMITS, LIMITS_AS_IT_IS], ids=["as PNG", "as it is"])
def limits(request: pytest.FixtureRequest) -> Limits:
    """The app's limits, for a model that takes PNG alone and for one that takes pictures as they are."""
    both: Limits = request.param
    return both
