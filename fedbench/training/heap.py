"""Memory between two steps: kept by the C library instead of given back and asked for again.

glibc maps each large block anew and unmaps it when it is freed, and with it every map of a network
on every step; the system then fills page after page with zeros. Kept, the next step finds its
memory at hand: the same bits, sooner (``benchmarks/speed/heap.py``). What the process keeps it
gives back after each cell. Sources: mallopt(3) and malloc_trim(3) of the Linux manual.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

#: From ``malloc.h``.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
#: Variables by which a user tells glibc the same; then they are right.
_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_TUNABLES = "GLIBC_TUNABLES"
_STEP = 64 << 20  # bytes that the heap grows by at least


@cache
def keep() -> bool:
    """Tell the C library to keep what is freed, for the whole process.

    Returns:
        Whether it does. It does not where it is no glibc, or where ``MALLOC_MMAP_MAX_`` and its
        relatives, or ``GLIBC_TUNABLES`` with ``malloc``, say otherwise.
    """
    library = _glibc()
    said = any(name in os.environ for name in _VARIABLES)
    if library is None or said or "malloc" in os.environ.get(_TUNABLES, ""):
        return False
    wanted = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: _STEP}
    return all([library.mallopt(option, value) == 1 for option, value in wanted.items()])


def give_back() -> None:
    """Give memory that nothing uses back to the system."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
