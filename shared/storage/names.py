"""How blobs are named: spaces, and the keys of the records that belong to an image."""

import fnmatch
import hashlib
import re
from collections.abc import Callable
from typing import Literal

from shared.settings import Settings

# The longest blob name that Azure Storage allows, in UTF-16 code units, as .NET counts them.
_MAX_NAME = 1024
_TAIL = len("~.json") + 64

RecordKind = Literal["images", "failures"]


def space_name(model: str, dimensions: int | None) -> str:
    """The folder for vectors that may be compared with each other: one for each model and vector length."""
    return model if dimensions is None else f"{model}-{dimensions}"


def space_of(settings: Settings) -> str:
    """The space that images are embedded into."""
    return space_name(settings.foundry_model, settings.embedding_dimensions)


def is_addressable(name: str) -> bool:
    """Whether a URL can name the image: clients and proxies resolve ``a/../b`` to ``b``, which is another image."""
    # The first test settles nearly every name without splitting it.
    return "." not in name or not {".", ".."} & set(name.split("/"))


def image_names(settings: Settings) -> Callable[[str], bool]:
    """Whether a name is that of an image, by ``IMAGE_NAMES``: it matches a pattern, or there is none.

    ``*`` stands for any characters, ``/`` among them, ``?`` for one and ``[…]`` for one of a set; case does not count.
    """
    if not settings.image_names:
        return lambda name: True
    patterns = "|".join(fnmatch.translate(pattern) for pattern in settings.image_names)
    matches = re.compile(patterns, re.IGNORECASE).match
    return lambda name: matches(name) is not None


def record_key(folder: str, name: str) -> str:
    """The end of the blob names of an image's records, after ``<folder>/images/`` and ``<folder>/failures/``.

    The key is the image's name followed by ``.json``. Where that would make the blob name too long, the name is cut
    and a hash of the whole name follows. Such a key has exactly the maximum length and every other key is shorter, so
    the two kinds never collide.
    """
    longest = longest_key(folder)
    # No character takes more than two units, so the length alone settles most names.
    if 2 * len(name) + len(".json") < longest or utf16_length(name) + len(".json") < longest:
        return f"{name}.json"
    head = cut(name, longest)
    padding = "~" * (longest - _TAIL - utf16_length(head))
    return f"{head}{padding}~{hashlib.sha256(name.encode()).hexdigest()}.json"


def record_path(folder: str, kind: RecordKind, name: str) -> str:
    """The blob name of an image's embedding record or failure record."""
    return f"{folder}/{kind}/{record_key(folder, name)}"


def longest_key(folder: str) -> int:
    """The maximum length of a record's key, in UTF-16 units. Both folders share it, so the longer one decides."""
    return _MAX_NAME - utf16_length(f"{folder}/failures/")


def cut(name: str, longest: int) -> str:
    """The start of a name that is also the start of its key, even when the key is cut."""
    return name.encode("utf-16-le")[: 2 * (longest - _TAIL)].decode("utf-16-le", "ignore")


def utf16_length(text: str) -> int:
    """The number of UTF-16 code units in a text."""
    return len(text.encode("utf-16-le")) // 2
