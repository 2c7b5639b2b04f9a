"""Settings of the C library's allocator that return freed arrays to the system.

By default, glibc raises its mmap threshold when a large array is freed. From then on, arrays of up to 32 MiB lie in
heaps between small long-lived objects, and every thread has heaps of its own. A coordinator with a 100 MB adapter then
holds 290 MB more than it uses (docs/log/2026-11.md).
"""

import ctypes
import sys

LARGE_BYTES = 5 << 18  # more than one chunk of the wire; heaps reuse those well
ARENAS = 2

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's malloc.h


def give_memory_back() -> bool:
    """Return arrays of LARGE_BYTES and more to the system when they are freed; return False if that cannot be set.

    Call it at the start of processes of our own: it applies to the whole process until its end.
    """
    library = _library()
    if library is None or not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)) and bool(library.mallopt(_M_ARENA_MAX, ARENAS))


def trim() -> None:
    """Return free pages between smaller objects too; takes some milliseconds per 100 MB."""
    library = _library()
    if library is not None and hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
