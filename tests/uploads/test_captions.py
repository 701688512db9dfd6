"""A picture with a text is embedded also where the model takes no text beside a picture; its record says so."""

import contextlib
import json
from collections.abc import Iterator

from shared.audit.reconcile import ReconcileRequest
from tests.conftest import Cloud
from tests.drawing import picture
from tests.model.replay import EMBEDDING, Replay, replaying

REFUSAL = {"message": "texts must be empty when input_type=image"}


@contextlib.contextmanager
def pictures_alone() -> Iterator[tuple[str, list[bool]]]:
    """A model as Cohere's v3 documents itself: a picture or a text, not both. And whether each call had a text."""
    asked: list[bool] = []

    def respond(body: bytes) -> Replay:
        asked.append("text" in json.loads(body)["input"][0])
        return (400, REFUSAL) if asked[-1] else (200, EMBEDDING)

    with replaying(respond) as endpoint:
        yield endpoint, asked


def test_a_captioned_picture_is_embedded_alone_where_the_model_takes_no_captions(cloud: Cloud) -> None:
    with pictures_alone() as (endpoint, asked):
        cloud = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint)
        cloud.upload("a.png", picture(), text="a red square")
        assert cloud.sync().upload("a.png").outcome == "embedded"
        assert asked == [True, False]
        cloud.upload("copy.png", picture(), text="a red square")
        assert cloud.sync().upload("copy.png").outcome == "copied"
        cloud.upload("plain.png", picture("blue"))
        cloud.sync().upload("plain.png")
    for name in ("a.png", "copy.png"):
        record = cloud.record(name)
        assert (record["text"], record["text_refused"]) == (None, "a red square")
    assert "text_refused" not in cloud.record("plain.png")
    report = cloud.reconcile().start(ReconcileRequest())
    assert (report.current, report.text_refused, report.requested) == (3, 2, 0)
    assert report.contents == 2, "the audit knows the contents of both kinds as used"
