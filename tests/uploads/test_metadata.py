"""What an image's blob has as metadata of its own is in the record, in searches, and never a reason to pay again."""

from datetime import UTC, datetime

import msgspec
import pytest

from shared.audit.reconcile import ReconcileRequest
from shared.search.entries import Facts
from shared.uploads.records import entry_of
from tests.audit.audits import audit, drain
from tests.conftest import Cloud
from tests.drawing import picture
from tests.search.records import record

GIVEN = {"SKU": "B-17", "category": "M%C3%B6bel", "Price": "12.50", "text": "a%20red chair"}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("*", {"sku": "B-17", "category": "M\u00f6bel", "price": "12.50"}),
        ("price, Sku, colour", {"sku": "B-17", "price": "12.50"}),
        ("text", {"text": "a red chair"}),
        ("", None),
    ],
)
def test_a_record_has_all_keys_of_the_blob_those_of_the_list_or_none(
    cloud: Cloud, setting: str, expected: dict[str, str] | None
) -> None:
    cloud = cloud.with_settings(IMAGE_METADATA=setting)
    cloud.upload("a.png", picture(), **GIVEN)
    assert cloud.sync().upload("a.png").outcome == "embedded"
    assert cloud.record("a.png").get("metadata") == expected
    assert cloud.record("a.png")["text"] == "a red chair"


@pytest.mark.either_format
def test_a_change_of_metadata_alone_is_seen_by_the_audit_and_costs_no_call(cloud: Cloud) -> None:
    cloud.upload("a.png", picture(), sku="1")
    cloud.sync().upload("a.png")
    vector = cloud.record("a.png")["embedding"]
    cloud.images.get_blob_client("a.png").set_blob_metadata({"sku": "2", "colour": "red"})
    report = audit(cloud)
    assert (report.stale, report.requested) == (1, 1)
    drain(cloud)
    changed = cloud.record("a.png")
    assert (changed["metadata"], changed["embedding"]) == ({"sku": "2", "colour": "red"}, vector)
    assert len(cloud.model.calls(200)) == 1


def test_another_choice_of_keys_waits_for_a_refresh_which_costs_no_call(cloud: Cloud) -> None:
    before = cloud.with_settings(IMAGE_METADATA="")
    for name in ("a.png", "plain.png"):
        before.upload(name, picture(), **({"sku": "1"} if name == "a.png" else {}))
        before.sync().upload(name)
    asked = cloud.reconcile().start(ReconcileRequest())
    assert (asked.current, asked.outdated, asked.requested) == (1, 1, 0)
    refreshed = cloud.reconcile().start(ReconcileRequest(refresh=True))
    assert (refreshed.outdated, refreshed.requested, refreshed.estimate.calls) == (1, 1, 0)
    drain(cloud)
    assert cloud.record("a.png")["metadata"] == {"sku": "1"}
    assert audit(cloud).current == 2
    assert len(cloud.model.calls(200)) == 1


def test_a_search_has_metadata_that_is_small_and_says_where_it_is_not() -> None:
    def facts(metadata: dict[str, str]) -> Facts:
        entry = entry_of(msgspec.structs.replace(record("a", "0x1", "images"), metadata=metadata), 1)
        assert entry.facts is not None
        return msgspec.msgpack.decode(msgspec.msgpack.encode(entry.facts), type=Facts)

    assert facts({}).metadata == {}
    assert facts({"note": "x" * 1020}).metadata == {"note": "x" * 1020}
    assert facts({"note": "x" * 1021}).metadata is None


def test_an_index_of_before_there_was_metadata_is_read_as_without_any() -> None:
    written = {"etag": "0x1", "media_type": "image/png", "width": 1, "height": 2, "embedded_at": datetime.now(UTC)}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(written), type=Facts).metadata == {}
