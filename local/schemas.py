"""The JSON Schemas of what is stored, made from the code: ``make schemas`` writes them into ``docs/schemas``."""

import re
from pathlib import Path
from typing import Any

import msgspec

from local.azurite import REPO_ROOT
from shared.audit.report import AuditReport
from shared.exports.report import Manifest
from shared.storage.space import SpaceDescription
from shared.uploads.records import EmbeddingRecord, FailureRecord

FOLDER = REPO_ROOT / "docs/schemas"
SHAPES: dict[str, type[msgspec.Struct]] = {
    "record": EmbeddingRecord,
    "failure": FailureRecord,
    "space": SpaceDescription,
    "report": AuditReport,
    "manifest": Manifest,
}


def schema(name: str) -> dict[str, Any]:
    """The schema of this kind of blob. Fields that are not in it may be there as well."""
    shape = SHAPES[name]
    _, parts = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    whole: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{name}.json",
        **parts.pop(shape.__name__),
    }
    if parts:
        whole["$defs"] = parts
    _make_readable(whole)
    return whole


def content(name: str) -> str:
    """The file with this schema."""
    return msgspec.json.format(msgspec.json.encode(schema(name))).decode() + "\n"


def path(name: str) -> Path:
    """Where the file is."""
    return FOLDER / f"{name}.json"


def _make_readable(part: object) -> None:
    """Put the descriptions into plain words."""
    if isinstance(part, dict):
        if isinstance(said := part.get("description"), str):
            said = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"`\1`", said).replace("``", "`").replace("`None`", "`null`")
            part["description"] = " ".join(said.split())
        for value in part.values():
            _make_readable(value)
    elif isinstance(part, list):
        for item in part:
            _make_readable(item)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in SHAPES:
        path(each).write_text(content(each))
