"""Where exports are: ``<folder>/exports/``, with the one that runs, the last report, and a folder for each export."""

import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, unquote

from shared.errors import Conflict, UnreadableBlob
from shared.exports.report import Export, ExportReport, Manifest, Names, Part, Run
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.rest import conflict_if_changed
from shared.storage.space import Space

_MANIFEST = "manifest.json"


class Listed(NamedTuple):
    """A finished export: what it has of which names, and when its manifest was written."""

    id: str
    as_of: datetime
    prefix: str


class ExportStore:
    """Reads and writes exports. Raises ``StorageError`` where storage fails.

    The state of the export that runs is only ever replaced by one that was made from it, so of two that work on it at
    once one loses its place, and what it has made is in no manifest.
    """

    def __init__(self, space: Space, blobs: JsonBlobs) -> None:
        self._space = space
        self._blobs = blobs

    def folder(self, export: str) -> str:
        """The folder of an export."""
        return f"{self._space.folder()}/exports/{export}"

    def find_latest(self) -> ExportReport | None:
        """The report of the export that was finished last, or ``None``; claims nothing."""
        try:
            return self._blobs.read(f"{self._space.find_folder()}/exports/latest.json", ExportReport)
        except UnreadableBlob:
            return None

    def write_latest(self, report: ExportReport) -> None:
        """Store the report of an export that is finished."""
        self._blobs.write(f"{self._space.folder()}/exports/latest.json", report, indented=True)

    def find_running(self) -> tuple[Export, str] | None:
        """The state of the export that runs and its version, or ``None``; claims nothing."""
        return self._blobs.read_version(self._running(self._space.find_folder()), Export)

    def write_running(self, export: Export, *, replaces: str | None) -> str:
        """Store the state in place of that version, or of none; returns the new one. Raises ``Conflict``."""
        condition = IF_MISSING if replaces is None else if_match(replaces)
        export.token = uuid.uuid4().hex
        try:
            with conflict_if_changed("running.json"):
                return self._blobs.write(self._running(self._space.folder()), export, condition=condition)
        except Conflict:
            stored = self.find_running()
            if stored is None or stored[0].token != export.token:
                raise
            # Our own write, if the response to it was lost.
            return stored[1]

    def remove_running(self, version: str) -> None:
        """Remove that version of the state; raises ``Conflict`` if another is there."""
        with conflict_if_changed("running.json"):
            self._blobs.delete(self._running(self._space.folder()), condition=if_match(version))

    def discard_running(self) -> None:
        """Remove the state, whatever it is."""
        self._blobs.delete_if_present(self._running(self._space.folder()))

    def write_run(self, export: str, name: str, content: bytes) -> None:
        """Store some of the names that an export has listed."""
        self._blobs.write(f"{self.folder(export)}/names/{name}", content)

    def read_run(self, export: str, run: Run) -> bytes:
        """What was stored; raises :class:`~shared.errors.UnreadableBlob` if it is gone."""
        path = f"{self.folder(export)}/names/{run.name}"
        content = self._blobs.read_bytes(path)
        if content is None:
            raise UnreadableBlob(path, ValueError("it is gone"))
        return content

    def write_names(self, export: str, runs: list[Run]) -> None:
        """Store which runs have all names of an export."""
        self._blobs.write(f"{self.folder(export)}/names/runs.json", Names(runs=runs))

    def find_names(self, export: str) -> list[Run] | None:
        """The runs with all names of an export, ``None`` if they are gone."""
        try:
            found = self._blobs.read(f"{self.folder(export)}/names/runs.json", Names)
        except UnreadableBlob:
            return None
        return None if found is None else found.runs

    def write_part(self, export: str, name: str, content: Iterable[bytes]) -> None:
        """Store a part, a few MiB at a time: there is all of it at the end, or nothing."""
        self._blobs.write_parts(f"{self.folder(export)}/{name}", content)

    def remove_part(self, export: str, name: str) -> None:
        """Remove a part that no manifest has."""
        self._blobs.delete_if_present(f"{self.folder(export)}/{name}")

    def write_manifest(self, manifest: Manifest) -> None:
        """Store the manifest: from now on the export is finished."""
        said = {"as_of": manifest.as_of.isoformat(), "prefix": quote(manifest.prefix, safe="")}
        self._blobs.write(f"{self.folder(manifest.id)}/{_MANIFEST}", manifest, metadata=said, indented=True)

    def finished(self) -> list[Listed]:
        """Every finished export."""
        found = []
        with closing(self._blobs.pages(f"{self._space.folder()}/exports/", "", "", f"/{_MANIFEST}")) as pages:
            for page in pages:
                for blob in page.blobs:
                    if as_of := blob.metadata.get("as_of"):
                        prefix = unquote(blob.metadata.get("prefix", ""))
                        export = blob.name.removesuffix(f"/{_MANIFEST}")
                        found.append(Listed(export, datetime.fromisoformat(as_of), prefix))
        return found

    def remove_unlisted(self, export: str, parts: Sequence[Part], runs: Sequence[Run]) -> None:
        """Remove what is left in an export's folder of steps that were not finished."""
        folder = f"{self.folder(export)}/"
        listed = {_MANIFEST, "names/runs.json", *(part.name for part in parts), *(f"names/{run.name}" for run in runs)}
        with closing(self._blobs.pages(folder, "", "", "")) as pages:
            for page in pages:
                for blob in page.blobs:
                    if blob.name not in listed:
                        self._blobs.delete_if_present(folder + blob.name)

    def _running(self, folder: str) -> str:
        return f"{folder}/exports/running.json"
