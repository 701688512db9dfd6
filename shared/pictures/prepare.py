"""The entry point. Importing it is cheap: the decoders are imported with the first picture."""

from shared.pictures.limits import Limits, Prepared
from shared.pictures.memory import keep_large_blocks

# Before any thread starts: a thread that has already allocated memory keeps an arena of its own.
keep_large_blocks()


def prepare(data: bytes, limits: Limits) -> Prepared:
    """See :func:`shared.pictures.convert.prepare`. Its import is deferred because few processes need it at start."""
    from shared.pictures import convert

    return convert.prepare(data, limits)
