"""The C library's allocator, told to give memory back: freed arrays would otherwise stay this process's for good.

glibc raises its own threshold to the size of whatever large array is freed first; from then on arrays of up to 32 MiB
lie in heaps between small things that live long, and each thread has heaps of its own. A coordinator of a 100 MB
adapter then holds 290 MB more than it uses (docs/log/2026-11.md).
"""

import ctypes
import sys

LARGE_BYTES = 5 << 18  # more than one chunk of the wire, of which heaps are full of use
ARENAS = 2

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's malloc.h


def give_memory_back() -> bool:
    """Have arrays of LARGE_BYTES and more leave this process when they are freed; False where that cannot be set.

    For processes of our own, at their begin: it holds for everything in them, to their end.
    """
    library = _library()
    if library is None or not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)) and bool(library.mallopt(_M_ARENA_MAX, ARENAS))


def trim() -> None:
    """Give free pages between smaller things back too; takes some milliseconds per 100 MB of them."""
    library = _library()
    if library is not None and hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
