"""The status says when a backlog will be done, while it lasts."""

import pytest

from bench.site import running
from proof import progress


def test_while_a_backlog_is_worked_off_the_status_says_when_that_is_done(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(settings=progress.SETTINGS, logs=tmp_path_factory.mktemp("progress")) as site:
        outcome = progress.progress(site, images=40, calls=8, window_s=3)
    # How right it is depends on the machine: make proof measures that.
    assert outcome.lost == 0
    assert outcome.estimates > 0
