"""The reports of audits in storage, and the filter that an audit keeps between its steps."""

from typing import Literal

from shared.audit.report import AuditReport
from shared.settings import Settings
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.names import space_of
from shared.storage.rest import conflict_if_changed

ReportKind = Literal["latest", "running"]


class ReportStore:
    """Reads and writes the reports of audits. Raises ``StorageError`` where storage fails."""

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self._space = space_of(settings)
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

    def remove_filter(self, audit: str) -> None:
        """Remove an audit's Bloom filter."""
        self._blobs.delete_if_present(self._filter(audit))

    def _filter(self, audit: str) -> str:
        return f"{self._space}/reports/{audit}.filter"


def _path(space: str, kind: ReportKind) -> str:
    return f"{space}/reports/{kind}.json"
