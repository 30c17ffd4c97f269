"""How this process's memory goes back to the system."""

from __future__ import annotations

import ctypes
import gc

import pyarrow as pa

_M_MMAP_THRESHOLD = -3  # of <malloc.h>
_LARGE = 4 << 20
_MANY = 20_000  # objects made between two collections; Python's own 700 suit small programs


def return_large_arrays() -> None:
    """Have arrays of 4 MiB and more go back to the system as soon as they are let go.

    glibc raises that limit by itself, up to 32 MiB, and keeps what lies between freed arrays, and
    Arrow's own allocator keeps what it has: together a fifth of the peak on long captures. Other C
    libraries are left as they are.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)


def collect_rarely() -> None:
    """Have Python look for cycles of objects rarely, and never in modules.

    Next to nothing here is in cycles, and names make many objects between two collections.
    """
    gc.freeze()
    gc.set_threshold(_MANY)
