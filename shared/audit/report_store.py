"""The reports of audits in storage, and the filter that an audit keeps between its steps."""

from typing import Literal

from shared.audit.report import AuditReport
from shared.settings import Settings
from shared.storage.blobs import JsonBlobs
from shared.storage.names import space_of

ReportKind = Literal["latest", "running"]


class ReportStore:
    """Reads and writes the reports of audits. Raises ``StorageError`` where storage fails."""

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self._space = space_of(settings)
        self._blobs = blobs

    def find(self, space: str, kind: ReportKind) -> AuditReport | None:
        """What the last audit of a space found, or the running one so far; ``None`` if there was none."""
        return self._blobs.read(_path(space, kind), AuditReport)

    def write(self, kind: ReportKind, report: AuditReport) -> None:
        """Store a report in place of the previous one."""
        self._blobs.write(_path(self._space, kind), report, indented=True)

    def remove_running(self) -> None:
        """Remove the report of the running audit, which has ended."""
        self._blobs.delete_if_present(_path(self._space, "running"))

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
