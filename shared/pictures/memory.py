"""How the C library keeps memory for pictures: in one place, enough for those being decoded, and no more."""

import ctypes

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_MIB = 2**20
# Once so much is free at the end of the heap (the second number), all of it but the first goes back to the kernel.
# With that, two threads prepare photographs of 24 and 12 megapixels in turns and fetch nothing; with a third of it
# they fetch 2,000 pages a picture. One of 24 megapixels takes 85 MiB; free blocks inside the heap are used as well.
_KEPT = 96 * _MIB
_GIVEN_BACK_FROM = 128 * _MIB


def keep_large_blocks() -> None:
    """Tell glibc to reuse the memory of large blocks, from one arena for all threads. Does nothing elsewhere.

    A picture takes tens of megabytes in a few large blocks. By default each is fetched from the kernel and given back,
    and fetching means a page fault for every 4 KiB: 16,000 for a photograph of 12 megapixels, or 45 of its 175
    milliseconds (2 virtual CPUs, AMD EPYC). And each thread that has once decoded keeps an arena of its own.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
    mallopt(_M_TOP_PAD, _KEPT)
    mallopt(_M_TRIM_THRESHOLD, _GIVEN_BACK_FROM)
    mallopt(_M_ARENA_MAX, 1)
