"""The way in: any picture to the PNG that the model accepts. Importing this is cheap; decoders load with a picture."""

from shared.pictures.limits import Limits, Prepared
from shared.pictures.memory import keep_large_blocks

# Before any thread exists: a thread that has allocated memory before this keeps an arena of its own.
keep_large_blocks()


def prepare(data: bytes, limits: Limits) -> Prepared:
    """See :func:`shared.pictures.convert.prepare`, which is imported with the first picture: few starts need it."""
    from shared.pictures import convert

    return convert.prepare(data, limits)
