"""A sync that something else interferes with, right before it writes."""

from collections.abc import Callable
from typing import Any

from shared.uploads.record_store import RecordState, RecordStore
from shared.uploads.sync import Sync
from tests.conftest import Cloud


class Interfering(RecordStore):
    """The real store, with something else happening right before a record or failure is written."""

    def meanwhile(self, happens: Callable[[], object]) -> None:
        self._happens: Callable[[], object] | None = happens

    def _interfere(self) -> None:
        happens, self._happens = self._happens, None
        if happens:
            happens()

    def write_record(self, record: Any, replaces: RecordState | None) -> RecordState:
        self._interfere()
        return super().write_record(record, replaces)

    def write_failure(self, failure: Any, preparation: int) -> None:
        self._interfere()
        super().write_failure(failure, preparation)


def interfered(cloud: Cloud, happens: Callable[[], object]) -> Sync:
    """A sync before whose first write this happens."""
    records = Interfering(cloud.space(), cloud.blobs(), cloud.journal())
    records.meanwhile(happens)
    return cloud.sync(records=records)
