"""What the tests of exports share: a process that reads Parquet, and exports as a test has them made."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.azurite import REPO_ROOT
from shared.exports.report import ExportRequest
from tests.audit.audits import drain
from tests.conftest import Cloud

PYTHON = REPO_ROOT / ".venv/readers/bin/python"


class PartReader:
    """A process with pyarrow, which turns parts into rows."""

    def __init__(self, folder: Path) -> None:
        assert PYTHON.exists(), "make .venv/readers/ready installs what reads exports"
        command = [PYTHON, Path(__file__).with_name("read_parts.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._folder = folder

    def rows(self, parts: list[bytes]) -> list[dict[str, Any]]:
        paths = [self._folder / f"{number}.parquet" for number in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            path.write_bytes(part)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, paths)) + "\n")
        self._process.stdin.flush()
        rows: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return rows

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def part_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PartReader]:
    reader = PartReader(tmp_path_factory.mktemp("parts"))
    yield reader
    reader.close()


@dataclass(frozen=True)
class Exporting:
    """Exports of a cloud, made and read."""

    cloud: Cloud
    reader: PartReader

    def make(self, **request: Any) -> dict[str, Any]:
        """Have an export made by messages; returns its manifest."""
        report = self.cloud.exports().start(ExportRequest(**request))
        drain(self.cloud)
        manifest: dict[str, Any] = self.manifest(report.id)
        return manifest

    def manifest(self, export: str) -> Any:
        return self.cloud.stored(f"exports/{export}/manifest.json")

    def rows(self, manifest: dict[str, Any], kind: str = "parts") -> list[dict[str, Any]]:
        """The rows of the parts that the manifest has."""
        folder = f"{self.cloud.folder}/exports/{manifest['id']}"
        names = [part["name"] for part in manifest[kind]]
        return self.reader.rows([self.cloud.embeddings.download_blob(f"{folder}/{name}").readall() for name in names])

    def blobs(self, export: str) -> set[str]:
        """The names of the blobs in an export's folder."""
        folder = f"{self.cloud.folder}/exports/{export}/"
        return {name.removeprefix(folder) for name in self.cloud.embeddings.list_blob_names(name_starts_with=folder)}


@pytest.fixture
def exporting(cloud: Cloud, part_reader: PartReader) -> Exporting:
    return Exporting(cloud, part_reader)
