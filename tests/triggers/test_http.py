"""What a caller is told about an error of the model."""

import pytest

from shared.errors import ModelUnavailable
from shared.triggers.http import DEFAULT_RETRY_AFTER, failure_response


@pytest.mark.parametrize(
    ("asked", "told"), [(None, DEFAULT_RETRY_AFTER), (0.0, DEFAULT_RETRY_AFTER), (7.2, 8), (86_400.0, 300)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_caller_is_told_to_wait_no_longer_than_the_app_itself_does(
    status: int, asked: float | None, told: int
) -> None:
    response = failure_response(ModelUnavailable("Not now.", status=status, retry_after=asked))
    assert (response.status_code, response.headers["retry-after"]) == (status, str(told))
