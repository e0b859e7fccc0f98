"""What a process gives back of its memory before it waits for another job."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

from ..backends.registry import loadable_engines


def rest() -> None:
    """Give back what the last job has used and the next one does not need; the loaded model stays."""
    gc.collect()
    for engine in loadable_engines(on_broken=lambda _: None):
        with contextlib.suppress(Exception):  # somebody else's code must not end the process
            engine.rest()
    if sys.platform == "linux":
        # what has been freed is otherwise kept for the next time that this process asks for memory
        with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)
