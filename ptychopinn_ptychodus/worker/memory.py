"""Memory that is free in this process, and of use to nobody."""

from __future__ import annotations

import contextlib
import ctypes
import sys


def give_back_free_memory() -> None:
    """Have the C library give back to the system what has been freed; on Linux, with GNU's library.

    It is otherwise kept for the next time that this process asks for memory. Networks leave hundreds of
    megabytes between blocks that stay.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)
