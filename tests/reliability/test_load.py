"""More than the model takes, more events than there are changes, and changes faster than events: nothing is lost."""

from typing import Literal

import pytest

from bench.site import PATIENCE, Site
from proof import changes, quota

FOUNDRY_CONCURRENCY = 8


@pytest.mark.parametrize("retry_after", ["seconds", "none"])
def test_a_quota_delays_images_but_loses_none_and_is_spent_on_answers(
    quiet_site: Site, retry_after: Literal["seconds", "none"]
) -> None:
    spent = quota.quota(quiet_site, images=16, retry_after=retry_after, calls=8, window_s=3)
    assert (spent.lost, spent.answered) == (0, 16)
    # In each window those in flight together; where no wait is named, also one that asks again, and once more. On a
    # machine too slow to use a window up, none.
    windows = spent.allowed // 8
    assert spent.refused <= windows * (FOUNDRY_CONCURRENCY + 2)


def test_whatever_the_order_of_changes_and_events_every_record_is_of_its_image(quiet_site: Site) -> None:
    outcome = changes.races(quiet_site, names=5, changes=60)
    assert outcome.lost == 0


def test_requests_that_need_nothing_do_not_hold_up_an_upload(quiet_site: Site) -> None:
    outcome = changes.starvation(quiet_site, uploads=5, rate=100)
    # Behind them each would wait for ever: they come as long as there are uploads.
    assert max(outcome.loaded_ms) < PATIENCE * 1000
    assert outcome.lost == 0
