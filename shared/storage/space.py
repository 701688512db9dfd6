"""What the app's space holds: ``<space>/space.json`` says which model filled it, and whose images were first.

A space is named after the deployment, and another model can be deployed under the same name. Vectors of two models must
not be compared, so the first answer of the service is written down and every later one compared with it.

Several apps with images containers of their own can write to one embeddings container. The app whose images container
claims the space first keeps its records in the space's own folder, each other app in one of its own,
``<space>/containers/<images container>``. So equal names of images never meet, and an audit sees the records of its own
images only. Contents and queries are shared. All containers of an app are in one account, so the container's name alone
tells apps apart, also after both containers have been copied to another account.
"""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime

import msgspec

from shared.clock import now
from shared.errors import UnreadableBlob, WrongSpace
from shared.races import until_won
from shared.settings import Settings
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.names import space_of
from shared.storage.rest import BRIEF, FULL, Effort, conflict_if_changed

# An operator may deploy the right model again at any time. Until a mismatch is this old, no call is paid for to see it.
_MISMATCH_SECONDS = 60.0


class SpaceDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors of a space, as the service described them with its answers; ``None`` where it did not say.

    The embeddings API names no provider and no version, so the app leaves these to whoever knows them.
    ``images`` is the URL of the images container whose app was first, empty while there is none. Older ones have no
    ``schema``.
    """

    schema: int = 1
    model: str | None = None
    provider: str | None = None
    version: str | None = None
    dimensions: int | None = None
    first_seen: datetime
    images: str = ""


class _Owned(msgspec.Struct):
    """The part of a record that names the container of its image."""

    container: str = ""


class Space:
    """The app's space. Safe to call from many threads and processes.

    Raises :class:`~shared.errors.StorageError` where storage fails.
    """

    def __init__(self, settings: Settings, blobs: JsonBlobs) -> None:
        self.name = space_of(settings)
        self.container = settings.images_container
        self._service = settings.blob_service_uri
        self._blobs = blobs
        self._folder: str | None = None
        self._known: SpaceDescription | None = None
        self._mismatch: WrongSpace | None = None
        self._mismatch_at = 0.0
        self._lock = threading.Lock()

    def folder(self) -> str:
        """The folder of this app's records. The first call of all apps claims the space."""
        if self._folder is None:
            with self._lock:
                self._known = self._update(self._claimed)
                self._folder = self._folder_by(self.name, self._known)
        return self._folder

    def find_folder(self) -> str:
        """The same where records are only read: claims nothing."""
        return self._folder or self.folder_in(self.name)

    def folder_in(self, space: str) -> str:
        """The folder of this app's records in any space of the container; claims nothing."""
        return self._folder_by(space, self._read(space)[0])

    def is_shared(self) -> bool:
        """Whether another app works in this space as well, and uses its contents."""
        if self.folder() != self.name:
            return True
        return self._first(f"{self.name}/containers/") is not None

    def container_of(self, path: str) -> str:
        """The container of the image that the record at ``path`` says that it is of; empty if it does not say."""
        try:
            record = self._blobs.read(path, _Owned)
        except UnreadableBlob:
            return ""
        return "" if record is None else record.container

    def dimensions(self) -> int | None:
        """The length of the vectors of the space, ``None`` while nothing says it; claims nothing."""
        if self._known is None or self._known.dimensions is None:
            self._known = self._read(self.name)[0]
        return None if self._known is None else self._known.dimensions

    def check(self) -> None:
        """Raise :class:`~shared.errors.WrongSpace` if :meth:`confirm` just did: the next call would be paid in vain."""
        mismatch = self._mismatch
        if mismatch is not None and time.monotonic() - self._mismatch_at < _MISMATCH_SECONDS:
            raise WrongSpace(mismatch.code, str(mismatch))

    def confirm(self, model: str | None, dimensions: int) -> None:
        """Make sure that a vector belongs into this space: its ``model`` as the service names it, and its length.

        The first vector of a space describes it. Raises :class:`~shared.errors.WrongSpace` for one of another kind.
        """
        known = self._known
        if known is None or self._mismatch is not None or _described(known, model, dimensions) != known:
            with self._lock:
                self._known = self._update(lambda before: _described(before, model, dimensions))
        self._compare(model, dimensions)

    def compare(self, model: str | None, dimensions: int | None) -> None:
        """The same for a vector that is compared with those of this space, and does not become one of them."""
        known = self._known
        if known is None or self._mismatch is not None or (model and not known.model) or not known.dimensions:
            # A caller waits for this.
            self._known = self._read(self.name, effort=BRIEF)[0]
        self._compare(model, dimensions)

    def _claimed(self, before: SpaceDescription | None) -> SpaceDescription:
        """The description with the claim of this app, or of the app whose records are there already."""
        if before is not None and before.images:
            return before
        before = before or SpaceDescription(first_seen=now())
        container = self._container_of_first_record() or self.container
        return msgspec.structs.replace(before, images=f"{self._service}/{container}")

    def _container_of_first_record(self) -> str:
        """Whose records are in the space's own folder, if any were written before there were claims."""
        folder = f"{self.name}/images/"
        first = self._first(folder)
        return "" if first is None else self.container_of(folder + first)

    def _first(self, folder: str) -> str | None:
        """The first name in a folder. Storage may return pages without any before it."""
        with closing(self._blobs.pages(folder, "", "")) as pages:
            return next((blob.name for page in pages for blob in page.blobs), None)

    def _folder_by(self, space: str, description: SpaceDescription | None) -> str:
        if description is None or description.images.rpartition("/")[2] in {"", self.container}:
            return space
        return f"{space}/containers/{self.container}"

    def _compare(self, model: str | None, dimensions: int | None) -> None:
        self._mismatch = _mismatch(self.name, self._known, model, dimensions)
        if self._mismatch is not None:
            self._mismatch_at = time.monotonic()
            raise self._mismatch

    def _update(self, change: Callable[[SpaceDescription | None], SpaceDescription]) -> SpaceDescription:
        """Apply a change that only adds what is unknown, whoever else adds something."""

        def attempt() -> SpaceDescription:
            before, version = self._read(self.name)
            after = change(before)
            if after != before:
                condition = IF_MISSING if before is None else if_match(version)
                with conflict_if_changed(self.name):
                    self._blobs.write(_path(self.name), after, condition=condition, indented=True)
            return after

        return until_won(attempt)

    def _read(self, space: str, *, effort: Effort = FULL) -> tuple[SpaceDescription | None, str]:
        """The description of a space and its version; ``None`` and empty if it has none."""
        try:
            found = self._blobs.read_version(_path(space), SpaceDescription, effort=effort)
        except UnreadableBlob as error:
            raise WrongSpace("unreadable_space", f"{error} Restore it, or delete it.") from error
        return found or (None, "")


def _path(space: str) -> str:
    return f"{space}/space.json"


def _described(before: SpaceDescription | None, model: str | None, dimensions: int) -> SpaceDescription:
    """The description with what was unknown of it so far."""
    if before is None:
        before = SpaceDescription(first_seen=now())
    return msgspec.structs.replace(before, model=before.model or model, dimensions=before.dimensions or dimensions)


def _mismatch(
    space: str, known: SpaceDescription | None, model: str | None, dimensions: int | None
) -> WrongSpace | None:
    if known is None:
        return None
    if known.model and model and known.model.casefold() != model.casefold():
        message = (
            f"The service answers with vectors of {model}, and {space} holds vectors of {known.model}: deploy the new"
            " model under a name of its own, and set FOUNDRY_MODEL to that name."
        )
        return WrongSpace("other_model", message)
    if known.dimensions and dimensions and known.dimensions != dimensions:
        message = (
            f"The service answers with {dimensions} numbers, and the vectors in {space} have {known.dimensions}: set"
            " EMBEDDING_DIMENSIONS to the length that you want, which makes a space of its own."
        )
        return WrongSpace("other_dimensions", message)
    return None
