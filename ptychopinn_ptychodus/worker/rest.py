"""What a process gives back of its memory before it waits for another job."""

from __future__ import annotations

import contextlib
import gc

from ..backends.registry import loadable_engines
from .memory import give_back_free_memory


def rest() -> None:
    """Give back what the last job has used and the next one does not need; the loaded model stays."""
    gc.collect()
    for engine in loadable_engines(on_broken=lambda _: None):
        with contextlib.suppress(Exception):  # somebody else's code must not end the process
            engine.rest()
    give_back_free_memory()
