"""Ptychodus' automation: a workflow that reconstructs standard directories as they appear.

Ptychodus watches a directory, and has a workflow do something with each file that appears there. Those that
it brings load results, or are of one beamline. :func:`attach` adds one for ``diffraction.h5`` and
``product.h5``.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
from pathlib import Path
from typing import Any

from ptychodus.api.workflow import FileBasedWorkflow, WorkflowAPI

from ..files import identity
from ..ptychodus_io.names import DIFFRACTION_FILE, LIBRARY, PRODUCT_FILE, product_in
from .extension import MARK, Survive

logger = logging.getLogger(LIBRARY)

WORKFLOW = "Standard_Directory"
"""What Ptychodus calls it in its settings."""

RESULT_DIRECTORY = "output"
"""Beside the files of a scan."""


class StandardDirectoryWorkflow(FileBasedWorkflow):
    """Reconstructs a directory with ``diffraction.h5`` and ``product.h5``, by the algorithm that is chosen.

    Results go to ``output/product.*.h5`` in it. Whichever file comes last, the scan is reconstructed once,
    and again when a file is replaced.
    """

    def __init__(self) -> None:
        self._done: dict[Path, tuple[tuple[int, ...], ...]] = {}

    @property
    def is_watch_recursive(self) -> bool:
        return True

    def get_watch_file_pattern(self) -> str:
        return "*.h5"

    def execute(self, api: WorkflowAPI, file_path: Path) -> None:
        directory = file_path.absolute().parent
        files = (directory / DIFFRACTION_FILE, product_in(directory))
        if file_path.name not in {file.name for file in files} or not all(file.is_file() for file in files):
            return  # of something else, or the other file is to come
        seen = tuple(identity(file) for file in files)
        if self._done.get(directory) == seen:
            return
        result = directory / RESULT_DIRECTORY
        result.mkdir(exist_ok=True)
        logger.info('Reconstructing "%s", which has appeared.', directory)
        diffraction = api.load_assembled_diffraction_data(files[0])
        product = api.load_product(files[1], diffraction=diffraction)
        product.reconstruct_local(output_product_file=result / PRODUCT_FILE)
        self._done[directory] = seen


def attach() -> None:
    """Have this process's Ptychodus offer the workflow, and miss no file; safe to call repeatedly."""
    from ptychodus.model.automation import buffer, core, watcher

    for cls, extend in (
        (core.AutomationCore, _offer),
        (watcher.DataDirectoryEventHandler, _see_all),
        (buffer.FileStatus, _survive_vanished),
    ):
        if MARK not in vars(cls):
            setattr(cls, MARK, True)
            with Survive(f"Ptychodus' {cls.__name__} could not be extended"):
                extend(cls)


def _offer(cls: Any) -> None:
    original = cls.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        with Survive(f"The workflow {WORKFLOW} is left out"):
            chooser = signature.bind(self, *args, **kwargs).arguments["workflow_chooser"]
            chooser.register_plugin(
                StandardDirectoryWorkflow(), simple_name=WORKFLOW, display_name="Standard Directory"
            )
        original(self, *args, **kwargs)

    cls.__init__ = __init__


def _see_all(cls: Any) -> None:
    """Files that are renamed into place, and those in directories that appear: Ptychodus misses both.

    A file that is written to a new directory before that is watched is announced by nobody else. A file whose
    time is set after it was written, as copies have it, is looked at again; only for the workflow of this
    module, which does nothing twice, since it may also be its owner that was set.
    """
    from watchdog.events import FileCreatedEvent

    original = cls.on_created_or_modified

    def take(self: Any, path: Path) -> None:
        recursive = self._dataset_buffer.get_current_workflow().is_watch_recursive
        inside = path.rglob("*") if path.is_dir() and recursive else [path]
        for each in inside:
            if each.is_file():
                original(self, FileCreatedEvent(str(each)))

    def on_created(self: Any, event: Any) -> None:
        take(self, Path(os.fsdecode(event.src_path)))

    def on_moved(self: Any, event: Any) -> None:
        take(self, Path(os.fsdecode(event.dest_path)))

    def on_attrib(self: Any, event: Any) -> None:
        workflow = self._dataset_buffer.get_current_workflow()
        if not event.is_directory and isinstance(workflow, StandardDirectoryWorkflow):
            take(self, Path(os.fsdecode(event.src_path)))

    cls.on_created, cls.on_moved, cls.on_attrib = on_created, on_moved, on_attrib


def _survive_vanished(cls: Any) -> None:
    """A file that is gone before it is looked at would end the thread that looks at all of them."""
    original = cls.from_file

    def from_file(path: Path) -> Any:
        try:
            return original(path)
        except FileNotFoundError:
            logger.info('"%s" has gone again.', path)
            return cls(stat_time_s=time.monotonic(), mtime_ns=-1, size_bytes=-1)

    cls.from_file = staticmethod(from_file)
