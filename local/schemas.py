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
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{name}.json",
        **parts.pop(shape.__name__),
    }
    readable: dict[str, Any] = _readable({**whole, "$defs": parts} if parts else whole)
    return readable


def content(name: str) -> str:
    """The file with this schema."""
    return msgspec.json.format(msgspec.json.encode(schema(name))).decode() + "\n"


def path(name: str) -> Path:
    """Where the file is."""
    return FOLDER / f"{name}.json"


def _readable(part: Any) -> Any:  # noqa: ANN401 - any JSON
    """The same with descriptions in plain words."""
    if isinstance(part, list):
        return [_readable(item) for item in part]
    if not isinstance(part, dict):
        return part
    read = {key: _readable(value) for key, value in part.items()}
    if isinstance(said := read.get("description"), str):
        said = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"`\1`", said).replace("``", "`").replace("`None`", "`null`")
        read["description"] = " ".join(said.split())
    return read


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in SHAPES:
        path(each).write_text(content(each))
