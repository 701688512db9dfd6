"""The JSON Schemas in docs/schemas are those of the code, and what the app stores is as they say."""

import json
from typing import Any

import jsonschema_rs
import pytest

from local import schemas
from shared.audit.reconcile import ReconcileRequest
from shared.exports.report import ExportRequest
from tests.audit.audits import drain
from tests.conftest import Cloud
from tests.drawing import picture


@pytest.mark.parametrize("name", schemas.SHAPES)
def test_the_published_schema_is_that_of_the_code(name: str) -> None:
    assert schemas.path(name).read_text() == schemas.content(name), "make schemas writes it"


def test_what_is_stored_is_as_its_schema_says_and_has_its_number(cloud: Cloud) -> None:
    cloud.upload("a.png", picture(), text="red", sku="B-17")
    cloud.upload("bad.png", b"no picture")
    for name in ("a.png", "bad.png"):
        cloud.sync().upload(name)
    cloud.reconcile().start(ReconcileRequest())
    export = cloud.exports().start(ExportRequest())
    drain(cloud)
    stored: dict[str, Any] = {
        "record": cloud.record("a.png"),
        "failure": cloud.failure("bad.png"),
        "space": cloud.stored("space.json"),
        "report": cloud.stored("reports/latest.json"),
        "manifest": cloud.stored(f"exports/{export.id}/manifest.json"),
    }
    assert stored.keys() == schemas.SHAPES.keys()
    for name, blob in stored.items():
        published = json.loads(schemas.path(name).read_text())
        jsonschema_rs.validate(published, blob)
        assert set(blob) <= set(published["properties"])
        assert blob["schema"] == (2 if name == "record" else 1)
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(published, {**blob, "schema": "1"})
