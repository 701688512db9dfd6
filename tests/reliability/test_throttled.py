"""An hour without any quota loses no image and makes few calls, whatever wait the model names."""

from concurrent.futures import Future

import pytest

from proof.quota import WAITS, Throttled

FUNCTION_TIMEOUT = 300
# Minutes: a message is hidden for an hour at most, and a probe comes every five.
SETTLED = 75
# In each, one probe at a time, and at first those in flight: every 4 s, after each wait, every five minutes.
MOST_CALLS = {0: 1000, 55: 100, 86_400: 30}


@pytest.mark.parametrize("retry_after", WAITS)
def test_an_hour_of_429_loses_no_image_and_makes_few_calls(
    throttled: Future[list[Throttled]], retry_after: int
) -> None:
    [hour] = [hour for hour in throttled.result() if hour.retry_after == retry_after]
    assert hour.lost == 0
    assert 0 < hour.calls <= MOST_CALLS[retry_after]
    assert hour.longest < FUNCTION_TIMEOUT
    assert hour.settled <= SETTLED
