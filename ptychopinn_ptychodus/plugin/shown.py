"""What the window shows of the newest run: findings, losses, the object while it is learnt, and progress."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychodus.api.product import LossValue

from ..data.examination import Report
from ..files import replacing
from ..ptychodus_io.names import GOAL
from ..worker.run_files import CONFIDENCE_FILE, CONFIDENCE_PICTURE

if TYPE_CHECKING:
    from ..refinement.report import RefinementReport

SHOW_EVERY_S = 1.0
"""Least number of seconds between two requests to show the losses, which are drawn anew each time."""


@dataclass(frozen=True)
class PreviewPicture:
    """A picture of an object that is still being learnt, and the number of epochs that were learnt so far."""

    path: Path
    epoch: int


@dataclass(frozen=True)
class ConfidenceFiles:
    """How far an object is to be believed, as the files that a run has left of it.

    Attributes
    ----------
    arrays
        The NPZ file, see :meth:`.Confidence.save`.
    picture
        A PNG image.
    """

    arrays: bytes
    picture: bytes

    @classmethod
    def read(cls, directory: Path) -> ConfidenceFiles | None:
        """Those in the directory of a job; None if it has left none."""
        arrays, picture = directory / CONFIDENCE_FILE, directory / CONFIDENCE_PICTURE
        return cls(arrays.read_bytes(), picture.read_bytes()) if arrays.is_file() else None

    def write(self, directory: Path) -> None:
        """Leave them in another directory, each replaced atomically."""
        for name, content in ((CONFIDENCE_FILE, self.arrays), (CONFIDENCE_PICTURE, self.picture)):
            with replacing(directory / name) as file:
                file.write(content)


def leave_confidence(confidence: ConfidenceFiles | None, directory: Path) -> None:
    """Leave the confidence of a result beside it; where there is none, remove that of an earlier one.

    Raises
    ------
    OSError
        If the files cannot be written.
    """
    if confidence is not None:
        confidence.write(directory)
        return
    for name in (CONFIDENCE_FILE, CONFIDENCE_PICTURE):
        (directory / name).unlink(missing_ok=True)


class Shown:
    """What the window shows of a reconstructor's newest run.

    Parameters
    ----------
    notify
        Called after each change, in the thread that makes it.
    logger
        Gets a warning if findings cannot be written.

    Attributes
    ----------
    preview
        What the newest training has shown of its object; None before there is something to see.
    findings
        What the examination of the newest run's scan, and of its result, has found.
    confidence
        How far the newest result is to be believed; None where that was not found out.
    curves
        Losses of the training that is running; empty when none is.
    refinement
        State of the refinement that is running; None before its first epoch.
    reading
        Which of several scans a training is reading, for people; empty when none is.
    """

    def __init__(self, notify: Callable[[], object], logger: logging.Logger) -> None:
        self.preview: PreviewPicture | None = None
        self.findings = Report()
        self.confidence: ConfidenceFiles | None = None
        self.curves: dict[str, list[LossValue]] = {}
        self.refinement: RefinementReport | None = None
        self.reading = ""
        self._notify = notify
        self._logger = logger
        self._shown_at = 0.0

    def show_preview(self, preview: PreviewPicture | None) -> None:
        """Show this picture in the place of the one so far."""
        self.preview = preview
        self._notify()

    def show_findings(self, findings: Report) -> None:
        """Show these findings in the place of those so far."""
        self.findings = findings
        self._notify()

    def show_confidence(self, confidence: ConfidenceFiles | None) -> None:
        """Show this confidence in the place of the one so far."""
        self.confidence = confidence
        self._notify()

    def add_findings(self, findings: Report) -> None:
        """Add findings of the worker, which has logged them itself."""
        self.show_findings(self.findings + findings)

    def save_findings(self, path: Path) -> None:
        """Write the findings so far; if that fails, there is a warning."""
        try:
            self.findings.save(path)
        except OSError as exc:  # the log has all findings
            self._logger.warning("The findings were not written: %s", exc)

    def show_reading(self, name: str, number: int, count: int) -> None:
        """Say which of several scans is being read."""
        self.reading = f"reading scan {number}/{count}: {name}"
        self._notify()

    def show_epoch(self) -> None:
        """Ask the application to show the losses, also where an epoch is less than a percent of the run."""
        now = time.monotonic()
        if now - self._shown_at >= SHOW_EVERY_S:
            self._shown_at = now
            self._notify()


class Task:
    """The application's task, in which a run takes place: its Stop button, its progress bar, and its end."""

    def __init__(self) -> None:
        self.monitor: Any = None
        """The application's task monitor, once it is attached."""
        self._closing = threading.Event()

    @property
    def is_closing(self) -> bool:
        """Whether the application is about to end."""
        return self._closing.is_set()

    def close(self) -> None:
        """Ask the run to keep its best state and end."""
        self._closing.set()

    def should_stop(self) -> bool:
        """Whether the user has pressed Stop, or the application is about to end."""
        monitor = self.monitor
        # a monitor keeps its last Stop until the next task: outside of a task it says nothing about this run
        stopping = monitor is not None and monitor.is_processing and monitor.is_stopping
        return bool(stopping) or self.is_closing

    def show_progress(self, fraction: float) -> None:
        """Show how far a reconstruction is, 0 to 1, without a product for it."""
        monitor = self.monitor
        if monitor is not None and monitor.is_processing:
            monitor.update_progress(percent(fraction), GOAL)


def percent(fraction: float) -> int:
    """Progress in the application's unit; the last percent is the result."""
    return min(GOAL - 1, int(GOAL * fraction + 1e-9))  # 0.29 is 29 %, though 100 × 0.29 is below 29
