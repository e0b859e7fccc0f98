"""Results that Ptychodus writes to files: what a reconstructor has besides a product is left beside it.

``ptychodus -b reconstruct`` and workflows name a file for the product, and do not tell the reconstructor. A
reconstructor with a method ``leave_beside`` is called with that file, once its last product is written; what
lies beside an earlier product stays as long as that does.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from ..files import identity
from ..ptychodus_io.names import GOAL, LIBRARY
from .extension import MARK, Survive

logger = logging.getLogger(LIBRARY)


def attach() -> None:
    """Have this process's Ptychodus call ``leave_beside``; safe to call repeatedly."""
    from ptychodus.model.processing import monitor

    task = getattr(monitor, "ReconstructBackgroundTask", None)
    if task is None:
        logger.debug("This Ptychodus does not say where it writes results: they have nothing beside them.")
        return
    if MARK in vars(task):
        return
    original = task.__call__

    @functools.wraps(original)
    def run(self: Any) -> None:
        file: Path | None = self.output_product_file
        if file is None or not hasattr(self.reconstructor, "leave_beside"):
            original(self)
            return
        last = file.with_name(f"{file.stem}.{GOAL:06d}{file.suffix}")
        before = identity(last)
        original(self)
        if identity(last) not in ((), before):
            with Survive("What belongs to the result could not be left beside it"):
                self.reconstructor.leave_beside(file)

    task.__call__ = run
    setattr(task, MARK, True)
