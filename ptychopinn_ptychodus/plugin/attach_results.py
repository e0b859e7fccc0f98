"""Results that Ptychodus writes to files: what a reconstructor has besides a product is left beside it.

``ptychodus -b reconstruct`` and workflows name a file for the product, and do not tell the reconstructor. A
reconstructor with a method ``leave_beside`` is called with that file, once its last product is written; what
lies beside an earlier product stays as long as that does.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator
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
        else:
            original(dataclasses.replace(self, reconstructor=_Leaving(self.reconstructor, file)))

    task.__call__ = run
    setattr(task, MARK, True)


class _Leaving:
    """A reconstructor that leaves what it has besides a product once Ptychodus has written the last one.

    Within the run, that is: whoever waits for its end may remove the directory, or end the process.
    """

    def __init__(self, reconstructor: Any, file: Path) -> None:
        self._reconstructor, self._file = reconstructor, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reconstructor, name)

    def reconstruct(self, parameters: Any) -> Iterator[Any]:
        last = self._file.with_name(f"{self._file.stem}.{GOAL:06d}{self._file.suffix}")
        before = identity(last)
        try:
            yield from self._reconstructor.reconstruct(parameters)
        finally:  # it is closed without being asked for more where the run is stopped
            if identity(last) not in ((), before):
                with Survive("What belongs to the result could not be left beside it"):
                    self._reconstructor.leave_beside(self._file)
