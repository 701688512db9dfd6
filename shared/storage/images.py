"""The images container, read only; and any other blob of the same account, by name."""

import contextlib
import io
import math
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from shared.errors import PictureError
from shared.settings import Settings
from shared.storage.listing import FOLDER, Lister, Page
from shared.storage.memory_budget import MemoryBudget
from shared.storage.rest import (
    BRIEF,
    FULL,
    LARGE,
    ONCE,
    Effort,
    Rest,
    conflict_if_changed,
    metadata_of,
    quoted,
    read_etag,
)

# What the bytes of pictures may take in a process at once: two of the default IMAGE_MAX_BYTES and some small ones. The
# rest of an instance's 2,048 MB is for decoding, which takes up to 900 MB (shared.pictures.costs).
_MAX_HELD = 256 * 2**20
# Deflate's best ratio (zlib's technical details): an encoded blob becomes at most so many times as large.
_MAX_INFLATION = 1032
# What zlib is told of the format (window bits, zlib's manual).
_GZIP_OR_ZLIB, _RAW_DEFLATE = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS
_GZIP = b"\x1f\x8b"
# What it takes and gives at once, in bytes.
_PIECE, _MAX_INFLATED = 64 * 2**10, 2**20
# bgzip, which writes the most, has a member for every 64 KiB, so 640 MB of a picture; each costs some microseconds.
_MAX_MEMBERS = 10_000


@dataclass
class Image:
    """An image as storage has it now, with its bytes if they came with the same request and were not taken yet.

    ``etag`` has no quotes, ``size`` is the stored size in bytes, and the keys of ``metadata`` are lower case.
    ``forget`` drops the bytes that nobody took.
    """

    name: str
    url: str
    etag: str
    size: int
    metadata: dict[str, str]
    encoding: str = ""
    content: bytes | None = field(default=None, repr=False)
    forget: Callable[[], None] = field(default=lambda: None, repr=False)

    def text(self, key: str) -> str | None:
        """The text that belongs to the image: the metadata value under ``key``, percent-decoded."""
        value = self.metadata.get(key.lower())
        return None if value is None else readable(value) or None


class Images:
    """Reads images. Transient storage faults are retried; the rest is raised as ``StorageError``."""

    def __init__(self, settings: Settings, rest: Rest) -> None:
        self._container = settings.images_container
        self._max_bytes = settings.image_max_bytes
        self._rest = rest
        self._lister = Lister(rest)
        self._budget = MemoryBudget(_MAX_HELD)

    def check(self) -> None:
        """List one image, without retries; raises ``StorageError`` as storage says."""
        url = self._rest.container_url(self._container)
        self._rest.send("GET", url, "restype=container&comp=list&maxresults=1", effort=ONCE)

    def url_of(self, name: str) -> str:
        """The URL of the image with this name, which need not exist."""
        return self._rest.blob_url(self._container, name)

    def find(self, name: str, *, with_content: bool = False, effort: Effort = FULL) -> Image | None:
        """The image, or ``None`` if there is none; a folder's marker is none.

        With ``with_content`` its bytes come in the same request, unless they are large, encoded, or too much for what
        the process holds already: then :meth:`download` fetches them. Call ``forget`` when the image is done with.
        ``effort`` says how hard to try.
        """
        url = self.url_of(name)
        if not with_content:
            answer = self._rest.find("HEAD", url, effort=effort)
            return None if answer is None else _unless_folder(_image(name, url, answer.headers))
        reserved = 0

        def wants(headers: Mapping[str, str]) -> bool:
            nonlocal reserved
            size = int(headers["content-length"])
            if size > min(LARGE, self._max_bytes) or headers.get("content-encoding"):
                return False
            reserved = size if self._budget.try_reserve(size) else 0
            return reserved == size

        def release() -> None:
            nonlocal reserved
            self._budget.release(reserved)
            reserved = 0

        def forget() -> None:
            image.content = None
            release()

        try:
            opened = self._rest.open(url, wants, effort=effort)
        except BaseException:
            release()
            raise
        if opened is None:
            return None
        image = _image(name, url, opened[0])
        image.content, image.forget = opened[1], forget
        if image.content is None:
            # The connection broke: whoever holds this room and waits for more of it would wait for itself.
            release()
        if _unless_folder(image) is None:
            image.forget()
            return None
        return image

    @contextlib.contextmanager
    def download(self, image: Image, *, deadline: float = math.inf, effort: Effort = FULL) -> Iterator[bytes]:
        """The bytes of exactly this version of the image, with any ``Content-Encoding`` undone, during the block.

        Raises :class:`~shared.errors.Conflict` if the image has changed, and ``PictureError`` if the decoded bytes
        exceed ``IMAGE_MAX_BYTES``. Waits while the process holds too much already, until ``deadline``
        (``time.monotonic``), then raises ``TimeoutError``.
        """
        if image.content is None:
            with self._budget.reserve(self._held(image), deadline=deadline):
                with conflict_if_changed(image.name):
                    content = self._read(image, effort=effort)
                yield _decoded(content, image.encoding, self._max_bytes)
            return
        try:
            yield image.content
        finally:
            image.forget()

    @contextlib.contextmanager
    def read_blob(self, container: str, name: str, *, deadline: float) -> Iterator[bytes]:
        """The bytes of any blob in the account, during the block; raises ``PictureError`` for one that is too large.

        Waits while the process holds too much already, until ``deadline`` (``time.monotonic``), then raises
        ``TimeoutError``. Waits for storage briefly, since a caller waits for this.
        """
        url = self._rest.blob_url(container, name)
        found = self._rest.send("HEAD", url, effort=BRIEF)
        image = _image(name, url, found.headers)
        if image.size > self._max_bytes:
            message = f"The blob has {image.size:,} bytes; IMAGE_MAX_BYTES allows {self._max_bytes:,}."
            raise PictureError("too_many_bytes", message)
        with self._budget.reserve(self._held(image), deadline=deadline):
            # Only this version: a later one may have any size.
            yield _decoded(self._read(image, effort=BRIEF), image.encoding, self._max_bytes)

    def pages(self, prefix: str, marker: str) -> Generator[Page]:
        """Each page of the images whose names start with ``prefix``."""
        return self._lister.pages(self._container, prefix, marker)

    def _held(self, image: Image) -> int:
        """What the image's bytes take at most, decoded next to encoded; decoding takes an eighth more for a while."""
        return image.size + (min(self._max_bytes, image.size * _MAX_INFLATION) * 9 // 8 if image.encoding else 0)

    def _read(self, image: Image, *, effort: Effort = FULL) -> bytes:
        if image.size > LARGE:
            return self._rest.read_large(image.url, image.etag, effort=effort)
        return self._rest.send("GET", image.url, headers={"if-match": quoted(image.etag)}, effort=effort).data


def readable(value: str) -> str:
    """A value of blob metadata as its writer meant it: UTF-8, percent-decoded, without blanks around it."""
    with contextlib.suppress(UnicodeError):
        # HTTP headers are decoded as Latin-1; this restores what was sent as UTF-8.
        value = value.encode("latin-1").decode("utf-8")
    return unquote(value).strip()


def _unless_folder(image: Image) -> Image | None:
    return None if FOLDER in image.metadata else image


def _image(name: str, url: str, headers: Mapping[str, str]) -> Image:
    encoding = headers.get("content-encoding", "")
    return Image(name, url, read_etag(headers), int(headers["content-length"]), metadata_of(headers), encoding)


def _decoded(content: bytes, encoding: str, max_bytes: int) -> bytes:
    """What a browser would show of a blob with this ``Content-Encoding``, at most ``max_bytes`` of it."""
    match encoding.strip().lower():
        case "gzip" | "x-gzip":
            formats = [_GZIP_OR_ZLIB]
        case "deflate":
            # RFC 9110 means zlib, and many send what is inside of that. Browsers take both.
            formats = [_GZIP_OR_ZLIB, _RAW_DEFLATE]
        case _:
            return content
    for window_bits in formats:
        try:
            decoded = _inflated(content, window_bits, max_bytes)
        except zlib.error:
            continue
        if len(decoded) > max_bytes:
            message = f"The blob has more than IMAGE_MAX_BYTES ({max_bytes:,}) bytes once its {encoding} is decoded."
            raise PictureError("too_many_bytes", message)
        return decoded
    raise PictureError("damaged_image", f"The blob's Content-Encoding is {encoding}, its bytes are not.")


def _inflated(content: bytes, window_bits: int, max_bytes: int) -> bytes:
    """The decompressed bytes, those of every member of a gzip file; a few more than ``max_bytes`` if there are more.

    What comes after the last member, such as padding, is ignored. Raises ``zlib.error`` if the first is broken, and
    ``PictureError`` for more members than any tool writes.
    """
    # Its buffer grows by an eighth at a time, and becomes the result without a copy.
    decoded = io.BytesIO()
    rest = memoryview(content)
    for _ in range(_MAX_MEMBERS):
        inflate = zlib.decompressobj(window_bits)
        while rest and not inflate.eof and decoded.tell() <= max_bytes:
            # In pieces, since zlib copies what it leaves over.
            piece = rest[:_PIECE]
            decoded.write(inflate.decompress(piece, _MAX_INFLATED))
            rest = rest[len(piece) - len(inflate.unconsumed_tail) - len(inflate.unused_data) :]
        if not rest:
            # Some bytes may be left that are no longer in the input.
            decoded.write(inflate.flush())
        if not inflate.eof or rest[:2] != _GZIP or decoded.tell() > max_bytes:
            return decoded.getvalue()
    raise PictureError("damaged_image", f"The blob's gzip has more than {_MAX_MEMBERS:,} members.")
