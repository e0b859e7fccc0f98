"""Imports of many modules at once: frameworks, and the application; and what a child imports from."""

from __future__ import annotations

import gc
import os
import sys
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


def import_path() -> str:
    """``PYTHONPATH`` of a child that imports from the same places as this process, in the same order.

    The current directory, which an interactive Python has as "", is none of them.
    """
    paths = [os.path.abspath(entry) for entry in sys.path if entry]  # noqa: PTH100 (a zip file has no links)
    return os.pathsep.join(dict.fromkeys(paths))
