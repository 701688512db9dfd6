"""Images, records and failures: three listings merged into one stream that says what each image has.

No blob is read. Two traps:

- A record's key is the image's name followed by ``.json``, so ``a-b`` sorts after ``a`` among images and before it
  among records. An image is therefore held back until no later image can sort before it. Only names that are prefixes
  of one another are held, so there are never many.
- Storage does not document the order in which it sorts names. The audit tries one after another: see :data:`ORDERS`.
"""

import heapq
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

from shared.audit.report import Cursor
from shared.storage.listing import Listed, Page
from shared.storage.names import cut, longest_key, record_key

# Greater than every key, in every order.
_END = "\U0010ffff" * 1025
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
# Names merged between two checks of the clock.
_CLOCK_INTERVAL = 512


class OutOfOrder(Exception):
    """Storage lists names in another order than expected. The message is the name that came too late."""


class ListedImage(NamedTuple):
    """An image as a listing has it. ``metadata_keys`` says which keys of its metadata a record of it is to have."""

    name: str
    etag: str
    metadata_keys: str = ""


class Found(NamedTuple):
    """What the listings hold under one name: an image and its records, at least one of the three."""

    image: ListedImage | None
    record: Listed | None
    failure: Listed | None

    def key(self, folder: str) -> str:
        """The key of the records."""
        if stored := self.record or self.failure:
            return stored.name
        return record_key(folder, self.image.name) if self.image else ""


def _by_code_points(name: str) -> str:
    """By code points, which is also the order of UTF-8 bytes."""
    return name


def _by_utf16(name: str) -> str:
    """By UTF-16 units, as .NET and JavaScript compare: emoji before full-width letters."""
    return name if name.isascii() else _ASTRAL.sub(_surrogates, name)


def _folders_first(name: str) -> str:
    """By code points, but a folder's contents come right after it."""
    return name.replace("/", "\0")


def _surrogates(character: re.Match[str]) -> str:
    units = character[0].encode("utf-16-be")
    return chr(int.from_bytes(units[:2])) + chr(int.from_bytes(units[2:]))


# The sort keys of the orders in which storage may list names.
ORDERS: tuple[Callable[[str], str], ...] = (_by_code_points, _by_utf16, _folders_first)


class Merge:
    """Merges three listings into one stream of :class:`Found`, from a cursor on.

    ``mark`` says of the keys of an image's metadata which of them its record is to have.
    """

    def __init__(
        self,
        images: Iterator[Page],
        records: Iterator[Page],
        failures: Iterator[Page],
        *,
        cursor: Cursor,
        order: int,
        folder: str,
        mark: Callable[[Iterable[str]], str] = lambda keys: "",
    ) -> None:
        self._cursor = cursor
        self._folder = folder
        self._images = _Images(images, ORDERS[order], cursor, folder, mark)
        self._records = _Records(records, ORDERS[order], cursor.done)
        self._failures = _Records(failures, ORDERS[order], cursor.done)

    def until(self, deadline: float) -> Generator[Found]:
        """Each name, until none is left or the deadline (``time.monotonic``) has passed; then the cursor is updated.

        Raises :class:`OutOfOrder`.
        """
        images, records, failures = self._images, self._records, self._failures
        found = None
        count = 0
        while (key := min(images.key, records.key, failures.key)) is not _END:
            count += 1
            if count % _CLOCK_INTERVAL == 0 and time.monotonic() > deadline:
                break
            image = record = failure = None
            if images.key == key:
                image = images.image
                images.advance()
            if records.key == key:
                record = records.blob
                records.advance()
            if failures.key == key:
                failure = failures.blob
                failures.advance()
            found = Found(image, record, failure)
            yield found
        else:
            self._cursor.judged = True
        self._update_cursor(found)

    def _update_cursor(self, last: Found | None) -> None:
        cursor = self._cursor
        cursor.done = last.key(self._folder) if last else cursor.done
        cursor.images, cursor.listed, cursor.held = self._images.marker, self._images.listed, self._images.pending()
        cursor.records, cursor.failures = self._records.marker, self._failures.marker


class _Records:
    """Records of one kind. ``blob`` is the next one, ``key`` its sort key."""

    def __init__(self, pages: Iterator[Page], order: Callable[[str], str], done: str) -> None:
        self._blobs = self._read(pages, order, order(done))
        self.marker = ""
        self.advance()

    def advance(self) -> None:
        """Go on to the next record."""
        self.key, self.blob = next(self._blobs, (_END, None))

    def _read(
        self, pages: Iterator[Page], order: Callable[[str], str], done: str
    ) -> Generator[tuple[str, Listed | None]]:
        last = ""
        for page in pages:
            self.marker = page.marker
            for blob in page.blobs:
                key = order(blob.name)
                if key <= last:
                    raise OutOfOrder(blob.name)
                last = key
                if key > done:
                    yield key, blob


class _Images:
    """Images in the order of their records. ``image`` is the next one, ``key`` its sort key."""

    def __init__(
        self,
        pages: Iterator[Page],
        order: Callable[[str], str],
        cursor: Cursor,
        folder: str,
        mark: Callable[[Iterable[str]], str],
    ) -> None:
        self._order = order
        self._folder = folder
        self._mark = mark
        self._longest = longest_key(folder)
        self.listed = cursor.listed
        self.marker = cursor.images
        self._bound = order(self._start_of_key(cursor.listed))
        held = [ListedImage(*image) for image in cursor.held]
        self._held = [(order(record_key(folder, image.name)), image) for image in held]
        heapq.heapify(self._held)
        self._listing = self._read(pages, order(cursor.listed))
        self.advance()

    def advance(self) -> None:
        """Go on to the next image."""
        held = self._held
        while not held or held[0][0] > self._bound:
            blob = next(self._listing, None)
            if blob is None:
                if not held:
                    self.key, self.image = _END, None
                    return
                self._bound = _END
                break
            name = self.listed = blob.name
            # No later image has a smaller key: a key starts with its image's name, or with the part of it that fits.
            self._bound = self._order(self._start_of_key(name))
            image = ListedImage(name, blob.etag, self._mark(blob.metadata) if blob.metadata else "")
            heapq.heappush(held, (self._order(record_key(self._folder, name)), image))
        self.key, self.image = heapq.heappop(held)

    def pending(self) -> list[tuple[str, ...]]:
        """The images that are listed but not merged yet: the next one, and those held back."""
        return [*([] if self.image is None else [self.image]), *(image for _, image in self._held)]

    def _start_of_key(self, name: str) -> str:
        return name if 2 * len(name) < self._longest else cut(name, self._longest)

    def _read(self, pages: Iterator[Page], listed: str) -> Generator[Listed]:
        last = ""
        for page in pages:
            self.marker = page.marker
            for blob in page.blobs:
                position = self._order(blob.name)
                if position <= last:
                    raise OutOfOrder(blob.name)
                last = position
                if position > listed:
                    yield blob
