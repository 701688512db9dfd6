"""A picture with a text is embedded also where the model takes no text beside a picture; its record says so."""

import pytest

from shared.audit.reconcile import ReconcileRequest
from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.replay import VECTOR, Replay, replaying

REFUSAL = {"message": "texts must be empty when input_type=image"}


@pytest.mark.either_format
def test_a_captioned_picture_is_embedded_alone_where_the_model_takes_no_captions(cloud: Cloud) -> None:
    """As Cohere's v3 documents itself: a picture or a text, not both."""
    captioned: list[bool] = []

    def respond(body: bytes) -> Replay:
        captioned.append(b"a red square" in body)
        return (400, REFUSAL) if captioned[-1] else (200, cloud.wire_format.vectors(VECTOR))

    with replaying(cloud, respond) as replayed:
        sync = replayed.sync()
        cloud.upload("a.png", picture(), text="a red square")
        assert sync.upload("a.png").outcome == "embedded"
        assert captioned == [True, False]
        cloud.upload("copy.png", picture(), text="a red square")
        assert sync.upload("copy.png").outcome == "copied"
        cloud.upload("plain.png", picture("blue"))
        sync.upload("plain.png")
    for name in ("a.png", "copy.png"):
        record = cloud.record(name)
        assert (record["text"], record["text_refused"]) == (None, "a red square")
    assert "text_refused" not in cloud.record("plain.png")
    report = cloud.reconcile().start(ReconcileRequest())
    assert (report.current, report.text_refused, report.requested) == (3, 2, 0)
    assert report.contents == 2, "the audit knows the contents of both kinds as used"
