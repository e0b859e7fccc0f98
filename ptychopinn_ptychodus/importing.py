"""Imports of many modules at once: frameworks, and the application."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the collector of reference cycles, which takes a tenth to a fifth of a large import.

    An import makes hundreds of thousands of objects that stay, and the collector looks at all of them again
    and again. Where it is switched off already, it stays so.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
