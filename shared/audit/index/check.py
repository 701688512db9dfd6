"""The index of search compared with the records, by listings alone, in the steps of an audit.

An image is found rightly if the index has an entry of the very ``seq`` of its record. Where it has another one or none,
the record is read and the index told. A name that the index finds and no listing held is looked at again.
"""

import threading
import time
from array import array
from contextlib import suppress

from shared.audit.index.recall import measure_recall
from shared.audit.index.states import States, hash_of, state_of
from shared.audit.report import Audit, IndexReport
from shared.audit.report_store import ReportStore
from shared.audit.workers import Workers
from shared.clock import milliseconds
from shared.errors import Conflict, ForeignRecord
from shared.search.journal import Journal
from shared.search.manifest import IndexBlobs
from shared.search.reader import Reader
from shared.search.upkeep.compaction import Compaction
from shared.storage.listing import Listed
from shared.uploads.record_store import RecordStore, seq_of

# A record so young may have been listed after the index was read, or its entry be under way.
_YOUNG_MS = 300_000
# So many of those are put off before the index is read again.
_MAX_YOUNG = 1000
# The names of so many images without a record are looked up at once.
_MAX_EXTRA = 50_000
# A log or segment that no manifest has listed for so long never will be: no invocation takes an hour.
_KEEP_UNLISTED_MS = 3_600_000


class IndexCheck:
    """Compares the index with the records. Raises ``StorageError`` where storage fails."""

    def __init__(
        self,
        records: RecordStore,
        reports: ReportStore,
        index: IndexBlobs,
        journal: Journal,
        compaction: Compaction,
        reader: Reader,
    ) -> None:
        self._records = records
        self._reports = reports
        self._index = index
        self._journal = journal
        self._compaction = compaction
        self._reader = reader

    def begin(self, audit: Audit) -> "IndexComparison":
        """The comparison of one step of an audit: reads the index."""
        report = audit.report
        listed: array[int] | None = None
        if not report.prefix:
            listed = array("Q") if audit.step == 1 else self._reports.find_listed(report.id)
        return IndexComparison(audit, self._read(dry_run=report.dry_run), self._records, listed)

    def save(self, audit: Audit, comparison: "IndexComparison") -> None:
        """Keep what the next step needs."""
        if comparison.listed is not None:
            self._reports.write_listed(audit.report.id, comparison.listed)

    def end(self, audit: Audit) -> None:
        """End an audit of everything: remove what no manifest lists, have the rest cleaned, measure the recall."""
        self._index.remove_unlisted(milliseconds() - _KEEP_UNLISTED_MS)
        self._compaction.ask_if_due(clean=True)
        if audit.report.index is not None:
            measure_recall(audit.report.index, self._reader)

    def _read(self, *, dry_run: bool) -> States:
        """The index without what is damaged. From now on nobody reads that, so what it held is missing."""
        states = States(self._index, self._records.folder())
        states.refresh()
        if not dry_run:
            for segment, why in states.damaged_segments.items():
                self._index.drop_segment(segment, why)
            for log in states.damaged_logs:
                self._journal.leave(log)
        return states


class IndexComparison:
    """The comparison within one step of an audit, which counts in the audit's report.

    ``listed`` has a hash of each record that was listed so far; it is ``None`` if those of earlier steps are not known.
    """

    def __init__(self, audit: Audit, states: States, records: RecordStore, listed: "array[int] | None") -> None:
        self.listed = listed
        self._audit = audit
        self._states = states
        self._records = records
        self._read_at = milliseconds()
        self._young: list[Listed] = []
        self._lock = threading.Lock()
        self._report = audit.report.index = audit.report.index or IndexReport()

    def restart(self) -> None:
        """All records are listed once more."""
        self._young = []
        self.listed = None if self.listed is None else array("Q")
        self._report = self._audit.report.index = IndexReport()

    def see(self, record: Listed, workers: Workers) -> None:
        """Compare a record that was listed, now or, if it is young, in :meth:`compare_young`."""
        if self.listed is not None:
            self.listed.append(hash_of(record.name))
        if seq_of(record) < self._read_at - _YOUNG_MS:
            self._compare(record, workers)
        else:
            self._young.append(record)
            if len(self._young) >= _MAX_YOUNG:
                self.compare_young(workers)

    def compare_young(self, workers: Workers) -> None:
        """Compare what was put off: with what the index says by now."""
        young, self._young = self._young, []
        if any(not self._is_right(record) for record in young):
            self._states.refresh()
        for record in young:
            self._compare(record, workers)

    def correct_extra(self, workers: Workers, deadline: float) -> bool:
        """Look again at the images that the index finds and that were not listed; returns whether all are done.

        Does nothing if it is not known which were listed.
        """
        import numpy as np

        if self.listed is None:
            return True
        self._states.refresh()
        extra = self._states.found_beside(np.frombuffer(self.listed, np.uint64))
        if self._audit.report.dry_run:
            self._report.extra = len(extra)
            return True
        for start in range(0, len(extra), _MAX_EXTRA):
            for name in self._states.names({int(hash_) for hash_ in extra[start : start + _MAX_EXTRA]}):
                workers.submit(self._remove_extra, name, self._states.of_name(name))
            if time.monotonic() > deadline and start + _MAX_EXTRA < len(extra):
                return False
        return True

    def count(self) -> None:
        """Count what the index finds, once all corrections are made."""
        self._states.refresh()
        self._report.images = self._states.count()
        self._report.segments = len(self._states.manifest.segments)

    def _compare(self, record: Listed, workers: Workers) -> None:
        if self._is_right(record):
            return
        state = self._states.of(hash_of(record.name))
        if self._audit.report.dry_run:
            self._report.missing += 1
        else:
            workers.submit(self._add_missing, record.name, state)

    def _is_right(self, record: Listed) -> bool:
        return self._states.of(hash_of(record.name)) == state_of(seq_of(record), is_gone=False)

    def _add_missing(self, key: str, state: int) -> None:
        name = self._records.name_of(key)
        if name is not None and self._correct(name, state):
            with self._lock:
                self._report.missing += 1

    def _remove_extra(self, name: str, state: int) -> None:
        if self._correct(name, state):
            with self._lock:
                self._report.extra += 1

    def _correct(self, name: str, state: int) -> bool:
        """Tell the index what the record says, where that is not its ``state``; returns whether that was so."""
        # Whoever changes the record meanwhile tells the index, and another app's record is none of this one's business.
        with suppress(Conflict, ForeignRecord):
            return self._records.correct(name, state // 2, is_gone=bool(state % 2))
        return False
