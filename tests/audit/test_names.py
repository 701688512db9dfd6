"""``reconcile`` with names looks at these images now: what raises no event is seen, at the price of two reads."""

import pytest

from shared.audit.reconcile import ReconcileRequest
from shared.errors import QueryError
from tests.audit.audits import audit, drain, embed
from tests.conftest import Cloud
from tests.drawing import picture


@pytest.mark.either_format
def test_a_text_that_was_changed_later_is_seen_at_once(cloud: Cloud) -> None:
    embed(cloud, "a.png", "b.png")
    cloud.images.get_blob_client("a.png").set_blob_metadata({"text": "a red square"})
    report = audit(cloud, names=["a.png", "b.png", "a.png", "nothing.png"])
    assert (report.images, report.requested, report.finished_at is not None) == (3, 3, True)
    assert cloud.stored("reports/latest.json") is None, "it is no audit of everything"
    drain(cloud)
    assert cloud.record("a.png")["text"] == "a red square"
    assert len(cloud.model.calls(200)) == 3


def test_names_are_counted_alone_in_a_dry_run_and_never_come_with_a_prefix(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    assert audit(cloud, names=["a.png"], dry_run=True).requested == 1
    assert cloud.queue.receive_message() is None
    with pytest.raises(QueryError, match="both names and prefix"):
        cloud.reconcile().start(ReconcileRequest(names=["a.png"], prefix="a"))
