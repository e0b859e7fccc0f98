"""What the window shows of the newest run: findings, losses, the object while it is learnt, and progress."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptychodus.api.product import LossValue

from ..data.examination import Report
from ..ptychodus_io.names import GOAL

SHOW_EVERY_S = 1.0
"""How often, at most, the application is told to look at the losses: it draws them anew each time."""


@dataclass(frozen=True)
class PreviewPicture:
    """An object that is still being learnt: its picture, and the epochs that it is the result of."""

    path: Path
    epoch: int


class Shown:
    """What there is to see of a reconstructor's newest run.

    Parameters
    ----------
    notify
        Called when it has changed, in whatever thread that happens.
    logger
        Is told of findings that cannot be written.

    Attributes
    ----------
    preview
        What the newest training has shown of its object; None before there is something to see.
    findings
        What the examination of the newest run's scan, and of its result, has found.
    curves
        Losses of the training that is running; empty when none is.
    """

    def __init__(self, notify: Callable[[], object], logger: logging.Logger) -> None:
        self.preview: PreviewPicture | None = None
        self.findings = Report()
        self.curves: dict[str, list[LossValue]] = {}
        self._notify = notify
        self._logger = logger
        self._shown_at = 0.0

    def show_preview(self, preview: PreviewPicture | None) -> None:
        """Take another picture's place."""
        self.preview = preview
        self._notify()

    def show_findings(self, findings: Report) -> None:
        """Take the place of the findings so far."""
        self.findings = findings
        self._notify()

    def add_findings(self, findings: Report) -> None:
        """Add what the worker has found; it has logged it."""
        self.show_findings(self.findings + findings)

    def save_findings(self, path: Path) -> None:
        """Write the findings so far; a warning says so where that cannot be done."""
        try:
            self.findings.save(path)
        except OSError as exc:  # the log has them all
            self._logger.warning("The findings were not written: %s", exc)

    def show_epoch(self) -> None:
        """Have the application look at the losses: of more than 100 epochs, not each is a percent."""
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
        """Have what runs keep its best state and end."""
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
