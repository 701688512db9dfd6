"""POST /api/export: every record in a table, in order, bit for bit; what has changed since; and what goes wrong."""

import json
import random
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import function_app
from shared.clock import now
from shared.errors import QueryError
from shared.exports.report import ExportRequest
from shared.storage.names import record_path
from shared.uploads.records import EmbeddingRecord
from tests.audit.audits import drain
from tests.conftest import Cloud
from tests.drawing import picture
from tests.exports.conftest import Exporting
from tests.functions import call, start_anew
from tests.search.records import record, remove

# Names around the characters that storage sorts in another way with ".json" behind them, and one that is cut.
NAMES = ["a", "a-b", "a b", "a.b", "a/b", "a-b-c", "A", "\u00e9", "\uff01", "\U0001f600", "a-", "x" * 1020, "z"]


def write(cloud: Cloud, *names: str, at: datetime | None = None, dimensions: int = 8) -> None:
    """Write a record of each of these images, with a vector of its own."""
    store = cloud.record_store()
    for name in names:
        vector = [random.Random(name).gauss(0, 1) for _ in range(dimensions)]
        made = record(name, "0x1", cloud.settings.images_container, vector)
        made = msgspec.structs.replace(made, embedded_at=at or now(), metadata={"sku": name[:5]} if name > "a" else {})
        store.write_record(made, store.find_record(name))


def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, runs, groups and parts of few names, and steps that end after one thing."""
    monkeypatch.setattr("shared.storage.listing._PAGE_SIZE", 2)
    monkeypatch.setattr("shared.exports.export._RUN_NAMES", 3)
    monkeypatch.setattr("shared.exports.export._PART_ROWS", 5)
    monkeypatch.setattr("shared.exports.table._GROUP_ROWS", 2)
    monkeypatch.setattr("shared.exports.export._STEP_SECONDS", -1)


def as_float32(numbers: list[float], form: str = "f") -> str:
    return struct.pack(f"<{len(numbers)}{form}", *numbers).hex()


@pytest.mark.parametrize("in_steps", [False, True])
def test_every_record_is_a_row_in_the_order_of_names_with_the_vector_bit_for_bit(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch, in_steps: bool
) -> None:
    cloud = exporting.cloud
    write(cloud, *NAMES)
    if in_steps:
        short(monkeypatch)
    manifest = exporting.make()
    rows = exporting.rows(manifest)
    assert [row["name"] for row in rows] == sorted(NAMES)
    for row in rows:
        stored = json.loads(cloud.embeddings.download_blob(record_path(cloud.folder, "images", row["name"])).readall())
        assert row.pop("embedding") == as_float32(stored["embedding"])
        assert datetime.fromisoformat(row.pop("embedded_at")) == datetime.fromisoformat(stored["embedded_at"])
        types = row.pop("types")
        assert row.pop("metadata") == stored.get("metadata", {})
        assert row == {key: stored[key] for key in row}
    assert types["embedding"].startswith("fixed_size_list<element: float")
    assert (manifest["rows"], sum(part["rows"] for part in manifest["parts"])) == (13, 13)
    assert len(manifest["parts"]) == (7 if in_steps else 1)
    assert [part["name"] for part in manifest["parts"]] == [
        f"part-{number:05}.parquet" for number in range(len(manifest["parts"]))
    ]
    assert cloud.stored("exports/running.json") is None


def test_vectors_may_be_of_float16(exporting: Exporting) -> None:
    write(exporting.cloud, "a")
    [row] = exporting.rows(exporting.make(float16=True))
    assert row["embedding"] == as_float32(exporting.cloud.record("a")["embedding"], "e")
    assert "halffloat" in row["types"]["embedding"]


def test_an_export_has_what_is_embedded_since_and_the_names_of_what_is_gone(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = exporting.cloud
    write(cloud, "old/1", "old/2", "old/3", "other", at=now() - timedelta(days=1))
    short(monkeypatch)
    whole = exporting.make()
    as_of = datetime.fromisoformat(whole["as_of"])
    assert as_of <= datetime.fromisoformat(whole["started_at"]) - timedelta(minutes=5)
    remove(cloud, "old/1", "other")
    write(cloud, "old/2", "new")
    changed = exporting.make(since=as_of)
    assert [row["name"] for row in exporting.rows(changed)] == ["new", "old/2"]
    assert (changed["base"], changed["gone"]) == (whole["id"], 2)
    assert [row["name"] for row in exporting.rows(changed, "gone_parts")] == ["old/1", "other"]
    # A part of the names, from the same export; and one after which there is nothing that is known to be gone.
    part = exporting.make(since=as_of, prefix="old/")
    assert [row["name"] for row in exporting.rows(part)] == ["old/2"]
    assert [row["name"] for row in exporting.rows(part, "gone_parts")] == ["old/1"]
    before = exporting.make(since=as_of - timedelta(hours=1))
    assert (before["base"], before["gone"], before["rows"]) == (None, None, 2)
    again = exporting.make(since=datetime.fromisoformat(changed["as_of"]))
    assert (again["base"], again["gone"]) != (None, None)


def test_a_space_without_records_is_a_manifest_without_parts(exporting: Exporting) -> None:
    manifest = exporting.make()
    assert (manifest["rows"], manifest["parts"], manifest["dimensions"]) == (0, [], None)


def test_a_damaged_record_is_counted_named_and_left_out(exporting: Exporting) -> None:
    cloud = exporting.cloud
    write(cloud, "a", "b", "c", "d", "e")
    write(cloud, "d", dimensions=9)
    folder = f"{cloud.folder}/images"
    cloud.embeddings.upload_blob(f"{folder}/b.json", b'{"name": "b"', overwrite=True)
    cloud.embeddings.upload_blob(
        f"{folder}/c.json", json.dumps({**cloud.record("c"), "name": "a"}).encode(), overwrite=True
    )
    manifest = exporting.make()
    assert [row["name"] for row in exporting.rows(manifest)] == ["a", "e"]
    assert (manifest["damaged"], manifest["damaged_names"]) == (3, ["b", "c", "d"])


def test_one_export_is_made_at_a_time_and_the_same_one_only_once(exporting: Exporting) -> None:
    cloud = exporting.cloud
    write(cloud, "a")
    first = cloud.exports().start(ExportRequest())
    assert cloud.exports().start(ExportRequest()).id == first.id
    with pytest.raises(QueryError, match=first.id) as refused:
        cloud.exports().start(ExportRequest(prefix="a"))
    assert (refused.value.code, refused.value.status) == ("export_running", 409)
    drain(cloud)
    assert exporting.manifest(first.id)["rows"] == 1
    assert cloud.exports().start(ExportRequest(prefix="a")).id != first.id


def test_nothing_was_embedded_in_the_future(cloud: Cloud) -> None:
    with pytest.raises(QueryError, match="in the future"):
        cloud.exports().start(ExportRequest(since=now() + timedelta(hours=1)))


def test_an_export_that_nobody_goes_on_with_gives_way_to_the_next(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = exporting.cloud
    write(cloud, "a")
    dead = cloud.exports().start(ExportRequest())
    cloud.queue.clear_messages()
    monkeypatch.setattr("shared.exports.export.now", lambda: datetime.now(UTC) + timedelta(minutes=16))
    assert exporting.make(prefix="a")["rows"] == 1
    cloud.exports().resume(dead.id)
    assert exporting.blobs(dead.id) == set()


def test_an_export_that_the_platform_gave_up_on_ends(exporting: Exporting) -> None:
    cloud = exporting.cloud
    write(cloud, "a")
    report = cloud.exports().start(ExportRequest())
    message = cloud.queue.receive_message()
    assert message is not None
    cloud.intake().failed_request(message.content.encode())
    assert cloud.stored("exports/running.json") is None
    assert exporting.manifest(report.id) is None
    assert exporting.make()["rows"] == 1


def test_the_route_answers_202_with_a_report_and_the_status_has_it(exporting: Exporting) -> None:
    cloud = exporting.cloud
    start_anew()
    cloud.upload("a.png", picture(), text="red", sku="1")
    cloud.sync().upload("a.png")

    def asked(body: bytes) -> tuple[int, Any]:
        code, _, answer = call(function_app.export, body)
        return code, answer

    def known() -> Any:
        return call(function_app.status, b"")[2]

    code, report = asked(b"")
    assert (code, report["finished_at"], report["rows"]) == (202, None, 0)
    assert known()["running_export"]["id"] == report["id"]
    code, refused = asked(b'{"float16": true}')
    assert (code, refused["error"]["code"]) == (409, "export_running")
    drain(cloud)
    last = known()["last_export"]
    assert (last["id"], last["rows"], last["folder"]) == (report["id"], 1, f"{cloud.folder}/exports/{report['id']}")
    assert known()["running_export"] is None
    [row] = exporting.rows(exporting.manifest(report["id"]))
    assert (row["text"], row["metadata"], row["model"]) == ("red", {"sku": "1"}, cloud.record("a.png")["model"])
    assert asked(b'{"since": "2999-01-01T00:00:00Z"}')[0] == 400
    assert asked(b'{"since": "2026-11-22"}')[0] == 400
    assert asked(b'{"format": "csv"}')[0] == 400


def test_an_export_s_record_is_the_shape_of_the_code(exporting: Exporting) -> None:
    write(exporting.cloud, "a")
    [row] = exporting.rows(exporting.make())
    fields = {field.name for field in msgspec.structs.fields(EmbeddingRecord)}
    assert set(row) - {"types"} <= fields
