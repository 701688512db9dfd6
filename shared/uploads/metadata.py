"""What of a blob's own metadata goes into the record of its image: ``IMAGE_METADATA``."""

import hashlib
from collections.abc import Iterable, Mapping

from shared.settings import Settings
from shared.storage.images import readable


class ImageMetadata:
    """Chooses from the metadata of images, whose keys are in lower case.

    All keys are chosen, or those of a list. The key of the text is among them only if the list names it, since a record
    has the text anyway.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = None if settings.image_metadata is None else frozenset(settings.image_metadata)
        self._text = settings.text_metadata.lower()

    def of(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """What the record has, by key."""
        return {key: readable(metadata[key]) for key in self._chosen(metadata)}

    def mark(self, keys: Iterable[str]) -> str:
        """The :func:`mark` of a record that is made now of an image with these keys."""
        return mark(self._chosen(keys)) if keys else ""

    def _chosen(self, keys: Iterable[str]) -> list[str]:
        if self._keys is None:
            return sorted(key for key in keys if key != self._text)
        return sorted(self._keys.intersection(keys))


def mark(keys: Iterable[str]) -> str:
    """A short text that tells which keys of its image's metadata a record has; empty for none.

    What they say cannot change without the image's ETag. Which of them are chosen can, with a setting or a release.
    """
    ordered = ",".join(sorted(keys))
    return hashlib.blake2b(ordered.encode(), digest_size=8).hexdigest() if ordered else ""
