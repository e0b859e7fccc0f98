"""What whoever follows a stream sees of it: the object meanwhile, how it stands, and its reconstruction."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..live.session import LiveReconstruction
from ..live.state import LiveState
from ..live.status import OBJECT_PICTURE, Stage, StatusFile
from ..ptychodus_io.live_products import ProductTemplate
from ..ptychodus_io.names import LIBRARY, PRODUCT_FILE
from ..worker.live_files import LiveFiles

RunProgress = tuple[float, "float | None", int, int]
"""What an :data:`~ptychopinn_ptychodus.live.status.OnProgress` is called with."""

_LOOK_S = 0.5


class StreamShown:
    """The directory that a window can follow, as it follows that of a live run.

    Parameters
    ----------
    directory
        Where product, picture and status go; it is there.
    template
        The product that the scan came with.
    logger
        Where it is said if the status cannot be written, on which nothing else depends.

    Attributes
    ----------
    warnings
        What a person must not miss; it comes before all other notes.
    """

    def __init__(self, directory: Path, template: ProductTemplate, logger: logging.Logger) -> None:
        self._files = LiveFiles(template, directory / PRODUCT_FILE, directory / OBJECT_PICTURE, LIBRARY)
        self._status = StatusFile(directory)
        self._logger = logger
        self.warnings: tuple[str, ...] = ()
        self._status.tell(Stage.WAITING, "the first frame of a stream")

    def show(self, running: LiveReconstruction[Any], state: LiveState, promised: int | None) -> None:
        """Show the object so far, if it is time to, and how it stands.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        is_new = self._files.show(running)
        newest = running.state if is_new else state
        # after the product that has these frames
        notes = (*self.warnings, *newest.notes)
        self._status.show(dataclasses.replace(newest, notes=notes), promised, at_once=is_new)

    def tell(self, stage: Stage, says: str, *, scan: Path | None = None) -> None:
        """Say what is done now; ``scan`` is the standard directory of all frames, once there is one."""
        try:
            self._status.tell(stage, says, scan="" if scan is None else str(scan), warnings=self.warnings)
        except OSError as exc:
            self._logger.error("How the stream stands could not be written: %s", exc)

    @contextmanager
    def reconstructing(self, look: Callable[[], RunProgress | None]) -> Iterator[None]:
        """Within the block, all frames are reconstructed together, and how far that is can be seen.

        Parameters
        ----------
        look
            Gives how far it is; None: nobody can tell. It is called now and then, in another thread.
        """
        tell = self._status.telling_progress(self._logger.warning)
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(_LOOK_S):
                try:
                    progress = look()
                except Exception as exc:  # a thread has nobody above it
                    self._logger.exception("How far the reconstruction is cannot be told: %s", exc)
                    return
                if progress is not None:
                    tell(*progress)

        thread = threading.Thread(target=watch, name="progress of a streamed scan", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def take_result(self, product: Path) -> None:
        """All frames have led to this product, which takes the place of the live one."""
        try:
            self._files.take_result(product)
        except OSError as exc:
            self._logger.error(
                'The result, "%s", is not shown in the place of the live one: %s', product, exc
            )
        self.tell(Stage.DONE, f"reconstructed: {product}")
