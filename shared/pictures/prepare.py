"""The entry point. Importing it is cheap: the decoders are imported with the first picture."""

import ctypes

from shared.pictures.limits import Limits, Prepared

# From <malloc.h> of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_MIB = 2**20
# When the free memory at the end of the heap reaches the second number, all but the first goes back to the kernel.
# With these, two threads that prepare photographs of 24 and 12 megapixels in turn fetch no new pages; with a third as
# much they fetch 2,000 pages a picture. A picture of 24 megapixels takes 85 MiB; free blocks inside the heap are reused
# as well.
_KEEP_FREE = 96 * _MIB
_TRIM_AT = 128 * _MIB


def prepare(data: bytes, limits: Limits) -> Prepared:
    """See :func:`shared.pictures.convert.prepare`. Its import is deferred because few processes need it at start."""
    from shared.pictures import convert

    return convert.prepare(data, limits)


def thumbnail(data: bytes, max_pixels: int, side: int) -> bytes:
    """See :func:`shared.pictures.convert.thumbnail`."""
    from shared.pictures import convert

    return convert.thumbnail(data, max_pixels, side)


def keep_large_blocks() -> None:
    """Tell glibc to reuse large blocks, from one arena for all threads. Does nothing with other C libraries.

    A picture takes tens of megabytes in a few large blocks. By default glibc gets each one from the kernel and gives it
    back, at the cost of a page fault for every 4 KiB: 16,000 for a photograph of 12 megapixels, or 45 of its 175
    milliseconds (2 virtual CPUs, AMD EPYC). By default, too, each thread that has decoded once keeps its own arena.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
    mallopt(_M_TOP_PAD, _KEEP_FREE)
    mallopt(_M_TRIM_THRESHOLD, _TRIM_AT)
    mallopt(_M_ARENA_MAX, 1)


# Before any thread starts: a thread that has already allocated memory keeps an arena of its own.
keep_large_blocks()
