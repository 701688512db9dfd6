"""The reports of audits in storage, and what an audit keeps between its steps: a filter, and a very large state."""

from collections.abc import Generator
from contextlib import closing
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from shared.audit.report import Audit, AuditReport
from shared.settings import Settings
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.listing import Listed
from shared.storage.names import space_of
from shared.storage.rest import conflict_if_changed

ReportKind = Literal["latest", "running"]
_FILTER, _STEP = ".filter", ".step"


class ReportStore:
    """Reads and writes the reports of audits. Raises ``StorageError`` where storage fails."""

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self._space = space_of(settings)
        self._reports = f"{self._space}/reports/"
        self._blobs = blobs

    def find(self, space: str, kind: ReportKind) -> AuditReport | None:
        """What the last audit of a space found, or the running one so far; ``None`` if there was none."""
        return self._blobs.read(_path(space, kind), AuditReport)

    def write_latest(self, report: AuditReport) -> None:
        """Store what the last audit found, in place of the one before."""
        self._blobs.write(_path(self._space, "latest"), report, indented=True)

    def find_running(self) -> tuple[AuditReport, str] | None:
        """The report of the running audit of this space, and its version; or ``None``."""
        return self._blobs.read_version(_path(self._space, "running"), AuditReport)

    def write_running(self, report: AuditReport, *, replaces: str | None) -> None:
        """Store the report of the running audit if that version, or none, is still there; else raises ``Conflict``."""
        condition = IF_MISSING if replaces is None else if_match(replaces)
        with conflict_if_changed("running.json"):
            self._blobs.write(_path(self._space, "running"), report, condition=condition, indented=True)

    def remove_running(self, version: str) -> None:
        """Remove that version of the report of the running audit; raises ``Conflict`` if another is there."""
        with conflict_if_changed("running.json"):
            self._blobs.delete(_path(self._space, "running"), condition=if_match(version))

    def find_filter(self, audit: str) -> bytes | None:
        """The Bloom filter that the audit with this id stored for its next step, or ``None``."""
        return self._blobs.read_bytes(self._filter(audit))

    def write_filter(self, audit: str, content: bytes) -> None:
        """Store an audit's Bloom filter for its next step."""
        self._blobs.write(self._filter(audit), content)

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
            self._blobs.delete_if_present(self._reports + blob.name)

    def clear_older(self, than: datetime) -> None:
        """Remove what any audit stored for its next steps before that time."""
        for blob in self._left(""):
            if parsedate_to_datetime(blob.last_modified) < than:
                self._blobs.delete_if_present(self._reports + blob.name)

    def _left(self, prefix: str) -> Generator[Listed]:
        with closing(self._blobs.pages(self._reports, prefix, "", (_FILTER, _STEP))) as pages:
            for page in pages:
                yield from page.blobs

    def _filter(self, audit: str) -> str:
        return f"{self._reports}{audit}{_FILTER}"

    def _step(self, name: str) -> str:
        return f"{self._reports}{name}{_STEP}"


def _path(space: str, kind: ReportKind) -> str:
    return f"{space}/reports/{kind}.json"
