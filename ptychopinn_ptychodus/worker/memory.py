"""Memory that is free in this process, and of use to nobody."""

from __future__ import annotations

import ctypes
import sys


def give_back_free_memory() -> None:
    """Have the C library give free memory back to the system, where it can be asked to (Linux, glibc).

    Networks leave holes of a few megabytes between blocks that stay.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)
