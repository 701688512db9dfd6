"""The reports of audits in storage, and what an audit keeps between its steps: two sets, and a very large state."""

from array import array
from collections.abc import Generator
from contextlib import closing
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from shared.audit.report import Audit, AuditReport
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.listing import Listed
from shared.storage.rest import conflict_if_changed
from shared.storage.space import Space

ReportKind = Literal["latest", "running"]
_FILTER, _LISTED, _STEP = ".filter", ".listed", ".step"


class ReportStore:
    """Reads and writes the reports of audits. Raises ``StorageError`` where storage fails."""

    def __init__(self, space: Space, blobs: JsonBlobs) -> None:
        self._space = space
        self._blobs = blobs

    def find(self, space: str, kind: ReportKind) -> AuditReport | None:
        """What this app's last audit of a space found, or the running one so far; ``None`` if there was none."""
        return self._blobs.read(_path(self._space.folder_in(space), kind), AuditReport)

    def write_latest(self, report: AuditReport) -> None:
        """Store what the last audit found, in place of the one before."""
        self._blobs.write(_path(self._space.folder(), "latest"), report, indented=True)

    def find_running(self) -> tuple[AuditReport, str] | None:
        """The report of the running audit of this space, and its version; or ``None``."""
        return self._blobs.read_version(_path(self._space.folder(), "running"), AuditReport)

    def write_running(self, report: AuditReport, *, replaces: str | None) -> None:
        """Store the report of the running audit if that version, or none, is still there; else raises ``Conflict``."""
        condition = IF_MISSING if replaces is None else if_match(replaces)
        with conflict_if_changed("running.json"):
            self._blobs.write(_path(self._space.folder(), "running"), report, condition=condition, indented=True)

    def remove_running(self, version: str) -> None:
        """Remove that version of the report of the running audit; raises ``Conflict`` if another is there."""
        with conflict_if_changed("running.json"):
            self._blobs.delete(_path(self._space.folder(), "running"), condition=if_match(version))

    def find_filter(self, audit: str) -> bytes | None:
        """The Bloom filter that the audit with this id stored for its next step, or ``None``."""
        return self._blobs.read_bytes(self._filter(audit))

    def write_filter(self, audit: str, content: bytes) -> None:
        """Store an audit's Bloom filter for its next step."""
        self._blobs.write(self._filter(audit), content)

    def find_listed(self, audit: str) -> "array[int] | None":
        """The hashes of the records that the audit with this id has listed in earlier steps, or ``None``."""
        content = self._blobs.read_bytes(f"{self._folder()}{audit}{_LISTED}")
        return None if content is None else array("Q", content)

    def write_listed(self, audit: str, hashes: "array[int]") -> None:
        """Store the hashes of the records that an audit has listed."""
        self._blobs.write_parts(f"{self._folder()}{audit}{_LISTED}", [hashes.tobytes()])

    def find_step(self, name: str) -> Audit | None:
        """The state of an audit that was stored under this name for its next step, or ``None``."""
        return self._blobs.read(self._step(name), Audit)

    def write_step(self, audit: Audit) -> str:
        """Store the state of an audit for its next step; returns the name."""
        name = f"{audit.report.id}.{audit.step}"
        self._blobs.write(self._step(name), audit)
        return name

    def clear(self, audit: str) -> None:
        """Remove what the audit with this id stored for its next steps."""
        for blob in self._left(f"{audit}."):
            self._blobs.delete_if_present(self._folder() + blob.name)

    def clear_older(self, than: datetime) -> None:
        """Remove what any audit stored for its next steps before that time."""
        for blob in self._left(""):
            if parsedate_to_datetime(blob.last_modified) < than:
                self._blobs.delete_if_present(self._folder() + blob.name)

    def _left(self, prefix: str) -> Generator[Listed]:
        with closing(self._blobs.pages(self._folder(), prefix, "", (_FILTER, _LISTED, _STEP))) as pages:
            for page in pages:
                yield from page.blobs

    def _filter(self, audit: str) -> str:
        return f"{self._folder()}{audit}{_FILTER}"

    def _step(self, name: str) -> str:
        return f"{self._folder()}{name}{_STEP}"

    def _folder(self) -> str:
        return f"{self._space.folder()}/reports/"


def _path(folder: str, kind: ReportKind) -> str:
    return f"{folder}/reports/{kind}.json"
