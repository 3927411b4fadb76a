"""How this process uses memory: fewer page faults while it trains, memory handed back between stages, and the peak.

glibc gives large freed blocks back to the system at once and faults them in again at the next step: a seventh of a training
step on a two-core machine (`benchmarks/heap.py`). On other systems these functions do nothing.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # malloc.h


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None


def keep_heap() -> None:
    """Keep freed memory for the next step instead of returning it."""
    library = _glibc()
    if library is None:
        return
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    library.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the largest value glibc takes
    library.mallopt(_M_TOP_PAD, 64 * 2**20)
    library.mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Hand freed memory back to the system."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def peak_rss_bytes() -> int:
    """Highest resident memory of this process and its finished children so far, in bytes."""
    import resource

    scale = 1 if os.uname().sysname == "Darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + children) * scale
