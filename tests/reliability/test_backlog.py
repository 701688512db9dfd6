"""A backlog that several processes share is worked off, and neither uploads nor queries wait for its end."""

from pathlib import Path

from bench.site import running_in_groups
from proof import backlog


def test_a_backlog_loses_nothing_and_refuses_no_query(tmp_path: Path) -> None:
    with running_in_groups(backlog.groups(2), logs=tmp_path, events=backlog.EVENTS) as sites:
        found = backlog.backlog(sites, images=60, uploads=1)
    assert (found.lost, found.queries_refused) == (0, 0)
    assert found.busy <= 2 * found.seconds, "no process works that is not asked to"
