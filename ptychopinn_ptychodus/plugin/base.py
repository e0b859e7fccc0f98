"""What the reconstructors have in common: names, progress, what the window shows of them, their errors."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.observer import Observable
from ptychodus.api.reconstruct import Reconstructor

from ..backends.base import ModelFileError
from ..backends.framework import EngineUnavailableError
from ..data.examination import ExaminationError, Report
from ..ptychodus_io.names import GOAL
from ..settings_table import EFFORT
from ..worker.wire import ChildDiedError
from .live import LiveRuns
from .open_products import OpenProducts
from .settings import PluginSettings, make_examination_config
from .shown import ConfidenceFiles, PreviewPicture, Shown, Task, leave_confidence
from .warm import WarmRuns

if TYPE_CHECKING:
    from ..live.timed_positions import TimedPositions
    from ..refinement.report import RefinementReport
    from .stream import StreamedScan

# Failures that their message explains in full; a traceback in the log pane would only bury it.
_EXPECTED = (ValueError, OSError, MemoryError, EngineUnavailableError, ChildDiedError)


class NoModelError(RuntimeError):
    """There is no model to reconstruct with; the message says how to get one."""


class PluginReconstructor(Reconstructor, Observable):
    """One reconstructor of the library.

    It notifies its observers of epochs, findings and previews, in whatever thread that happens.

    Parameters
    ----------
    name
        As the application lists it.
    model_type
        ``"pinn"`` or ``"supervised"``, or :data:`.settings_table.WITHOUT_MODEL`: which settings it reads.
    settings
        Shared by the reconstructors of the library, and read anew at every run.
    logger
        The library's: the application shows only that one beside the progress bar.
    warm
        Where the processes of its runs come from, and wait for the next one; the library's.
    live
        The scan that is followed while it is recorded; the library's.
    """

    leaves_beside = True
    """Whether :meth:`leave_beside` does so; False where whoever asks for a result leaves it elsewhere."""

    _open_products: OpenProducts | None = None

    def __init__(
        self,
        name: str,
        model_type: str,
        settings: PluginSettings,
        logger: logging.Logger,
        warm: WarmRuns,
        live: LiveRuns,
    ) -> None:
        super().__init__()
        self._name = name
        self.model_type = model_type
        self._settings = settings
        self._logger = logger
        self.warm = warm
        self.live = live
        self._task = Task()
        self._shown = Shown(self.notify_observers, logger)

    # ---- what there is to see of the newest run

    @property
    def preview(self) -> PreviewPicture | None:
        """What the newest training has shown of its object; None before there is something to see."""
        return self._shown.preview

    @property
    def findings(self) -> Report:
        """What the examination of the newest run's scan, and of its result, has found."""
        return self._shown.findings

    @property
    def refinement(self) -> RefinementReport | None:
        """State of the newest run's refinement after an epoch; None before its first one."""
        return self._shown.refinement

    @property
    def confidence(self) -> ConfidenceFiles | None:
        """How far the newest run's result is to be believed; None where that was not found out."""
        return self._shown.confidence

    # ---- what the application asks before it does anything: none of it may raise

    @property
    def name(self) -> str:
        return self._name

    def get_progress_goal(self) -> int:
        return GOAL

    # ---- hooks of attach.py

    def attach_task_monitor(self, monitor: Any) -> None:
        """Learn of Stop, and show progress, without yielding a product for it."""
        self._task.monitor = monitor

    @property
    def open_products(self) -> OpenProducts | None:
        """What is open in the application; None where that cannot be told."""
        return self._open_products

    def attach_open_products(self, products: OpenProducts) -> None:
        """Learn of what is open in the application, to train on it, and to add to it."""
        self._open_products = products

    def begin_stream(
        self,
        source: Path,
        target: Path,
        bad_pixels: NDArray[np.bool_],
        positions: TimedPositions,
        *,
        promised: int,
        dtype: Any,
        resume: bool,
    ) -> StreamedScan:
        """Follow a scan that is streamed; arguments and errors are those of :class:`.StreamedScan`."""
        with self._reporting("The stream is not followed"):
            # imported here: the application does not wait for it when it starts
            from .stream import StreamedScan

            values = make_examination_config(self._settings).pattern_values
            return StreamedScan(
                source,
                target,
                bad_pixels,
                positions,
                domain="amplitude" if values == "amplitude" else "counts",
                model=self._model_for_live(),
                logger=self._logger,
                promised=promised,
                dtype=dtype,
                resume=resume,
            )

    def close(self) -> None:
        """Have what runs keep its best state and end, and start nothing more."""
        self._task.close()

    # ---- scans that are recorded

    def follow_live(self, directory: Path) -> None:
        """Follow the live run that leaves its result in ``directory``; errors as :meth:`.LiveRuns.follow`."""
        with self._reporting("The live run cannot be followed"):
            self.live.follow(directory, self._add_product)

    def start_live(self, source: Path) -> Path:
        """Start a live run on the scan that is recorded to ``source``, and return where its result goes.

        Raises
        ------
        NoModelError
            If this reconstructor needs a model, and none is loaded.
        OSError, RuntimeError
            See :meth:`.LiveRuns.start`.
        """
        with self._reporting("The scan cannot be followed"):
            return self.live.start(source, self.name, self._model_for_live(), self._add_product)

    def _model_for_live(self) -> Path | None:
        """The model that a live run applies; None if it needs none."""
        return None

    def _add_product(self, path: Path, frames: Path | None) -> None:
        if self._open_products is None:
            self._logger.info("This Ptychodus does not say what is open: open that file to look at it.")
        else:
            self._open_products.add(path, frames)

    # ---- results that the application writes to files

    def leave_beside(self, product_file: Path) -> None:
        """Leave what the newest run has found beside its product, which goes to files beside this one.

        What cannot be written is a warning: the product is there.
        """
        if not self.leaves_beside:
            return
        try:
            leave_confidence(self._shown.confidence, product_file.parent)
        except OSError as exc:
            self._logger.warning("The map of confidence was not written: %s", exc)

    # ---- helpers

    def _say_effort(self) -> None:
        effort = self._settings.shown(EFFORT)
        self._logger.info('Effort "%s": %s.', effort, self._settings.effort_says(self.model_type))

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Say in the library's log what failed (the window shows nothing else), and raise it again."""
        try:
            if self._task.is_closing:
                raise RuntimeError("Ptychodus is closing: nothing is started any more.")
            yield
        except GeneratorExit:
            raise
        except Exception as exc:
            if isinstance(exc, ExaminationError):
                self._shown.add_findings(exc.report)
            expected = isinstance(exc, (*_EXPECTED, NoModelError, ModelFileError))
            self._logger.error("%s: %s", what, exc, exc_info=None if expected else exc)
            self._logger.debug("Traceback:", exc_info=exc)
            raise
