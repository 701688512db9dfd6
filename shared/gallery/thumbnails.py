"""Small pictures of images, made when they are asked for: decoding again costs less than keeping them in step."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated

import msgspec

from shared.errors import Busy, PictureError, QueryError, StorageError
from shared.gallery.names import check_name, unknown
from shared.pictures.prepare import thumbnail
from shared.races import until_won
from shared.settings import Settings
from shared.storage.images import Image, Images
from shared.storage.names import image_names
from shared.storage.rest import BRIEF

# Raise the number whenever thumbnails come out with other pixels.
_VERSION = 1
# How long a caller waits for memory, in seconds.
_PATIENCE = 20.0
_RETRY_AFTER = 5.0


class ThumbnailRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The longest side of a thumbnail, in pixels."""

    size: Annotated[int, msgspec.Meta(ge=32, le=1024)] = 256


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG and its ETag, without quotes; ``None`` for a caller that has this version of it."""

    etag: str
    jpeg: bytes | None = field(repr=False)


class Thumbnails:
    """Makes thumbnails. Safe to call from many threads."""

    def __init__(self, settings: Settings, images: Images) -> None:
        self._images = images
        self._is_image = image_names(settings)
        self._max_bytes = settings.image_max_bytes
        self._max_pixels = settings.image_max_pixels

    def make(self, name: str, request: ThumbnailRequest, is_known: Callable[[str], bool] | None) -> Thumbnail:
        """The thumbnail of an image; ``is_known`` says of an ETag whether the caller has that version, if it has any.

        Raises :class:`~shared.errors.QueryError` if there is no such image (404) or it cannot be shown (422),
        :class:`~shared.errors.Busy`, and ``StorageError``.
        """
        check_name(name)
        return until_won(lambda: self._make(name, request.size, is_known))

    def _make(self, name: str, size: int, is_known: Callable[[str], bool] | None) -> Thumbnail:
        image = self._find(name, with_content=is_known is None)
        try:
            etag = f"{image.etag}-{size}-{_VERSION}"
            if is_known is not None and is_known(etag):
                return Thumbnail(etag, None)
            return Thumbnail(etag, self._draw(image, size))
        except PictureError as error:
            raise QueryError(error.code, str(error), status=422, target="name") from error
        finally:
            image.forget()

    def _find(self, name: str, *, with_content: bool) -> Image:
        try:
            is_image = self._is_image(name)
            image = self._images.find(name, with_content=with_content, effort=BRIEF) if is_image else None
        except StorageError as error:
            # A name that no blob can have.
            if error.status != HTTPStatus.BAD_REQUEST:
                raise
            image = None
        if image is None:
            raise unknown(name)
        return image

    def _draw(self, image: Image, size: int) -> bytes:
        if image.size > self._max_bytes:
            message = f"The blob has {image.size:,} bytes; IMAGE_MAX_BYTES allows {self._max_bytes:,}."
            raise PictureError("too_many_bytes", message)
        try:
            with self._images.download(image, deadline=time.monotonic() + _PATIENCE, effort=BRIEF) as data:
                return thumbnail(data, self._max_pixels, size)
        except TimeoutError as error:
            message = "The app has too many pictures in hand at the moment: ask again."
            raise Busy(message, retry_after=_RETRY_AFTER) from error
