"""The box in which the object of a scan grows while the scan is recorded."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

from ptychodus.view.widgets import ExceptionDialog
from PyQt5.QtGui import QPixmap
from PyQt5.QtWidgets import QGroupBox, QHBoxLayout, QPushButton, QVBoxLayout

from ...files import identity
from ...formatting import counted, duration
from ...live.status import LiveStatus, Stage
from ..base import PluginReconstructor
from ..live import is_live_run
from .preview import Picture
from .widgets import Form, InfoLabel, Relay, tool_tip

FRAMES, SPEED, LAG, ERROR, FINAL = "Frames", "Speed", "Lag", "Error", "Together"
_TIPS = {
    FRAMES: "Frames that the object has been fitted to, of those that the scan's file promises.",
    SPEED: "Frames that the object was fitted to in a second, over the last seconds.",
    LAG: "Frames that have come and wait to be fitted to, and how long the oldest of them has waited.",
    ERROR: "What the object so far leaves of the patterns, relative to them. Noise is a part of it.",
    FINAL: "How far the reconstruction of all frames together is, which follows the last of them.",
}
_STAGES = {
    Stage.WAITING: "Waiting",
    Stage.FOLLOWING: "Live",
    Stage.COMPLETING: "No more frames",
    Stage.DONE: "Over",
    Stage.FAILED: "⚠ Failed",
}


def rows(status: LiveStatus) -> dict[str, str]:
    """What the box shows of a run's numbers, by row; those without a value are missing."""
    shown = {}
    if status.in_object:
        of = "" if status.promised is None else f" of {status.promised}"
        shown[FRAMES] = f"{status.in_object}{of} in the object"
    if status.stage is Stage.FOLLOWING:
        shown[SPEED] = f"{status.frames_per_second:.0f} frames/s"
        shown[LAG] = f"{counted(status.lag, 'frame')}, {status.lag_s:.1f} s"
    if math.isfinite(status.error) and status.stage is not Stage.DONE:  # it was that of the object so far
        shown[ERROR] = f"{status.error:.3g}"
    if status.stage is Stage.COMPLETING and (status.progress > 0 or status.epochs):
        shown[FINAL] = _progress(status)
    return shown


def _progress(status: LiveStatus) -> str:
    """Part of the work, epoch and time left of the reconstruction of all frames."""
    parts = [f"{100 * status.progress:.0f} %"]
    if status.epochs:
        parts.append(f"epoch {status.epoch} of {status.epochs}")
    if math.isfinite(status.seconds_left):
        parts.append(f"{duration(status.seconds_left)} left")
    return ", ".join(parts)


class LiveBox(QGroupBox):
    """How a live run stands, its object so far, and the buttons that follow one and leave it."""

    def __init__(self, reconstructor: PluginReconstructor, file_dialog_factory: Any) -> None:
        super().__init__("Live")
        self._reconstructor = reconstructor
        self._live = reconstructor.live
        self._dialogs = file_dialog_factory
        self._shown: tuple[int, ...] = ()
        self.status = InfoLabel()
        self.values = {name: InfoLabel() for name in _TIPS}
        self.picture = Picture()
        self.live_button = QPushButton("Live…")
        self.live_button.setToolTip(
            tool_tip(
                "Watch the object grow while a scan is recorded: choose the directory that the frames are "
                "written to, with the product that Ptychodus has saved for the scan (product.h5: probe and "
                "pixel size). The result goes to a new directory of yours.",
                "Of a live run that was started elsewhere, choose the directory of its result.",
            )
        )
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip(
            tool_tip(
                "Stop watching. The product as it is then joins the products that are open, with its frames; "
                "one that is being reconstructed as a whole stays the live one. A live run that was started "
                "elsewhere goes on."
            )
        )
        self.form = Form()
        for name, value in self.values.items():
            self.form.add(f"{name}:", value).setToolTip(tool_tip(_TIPS[name]))
        buttons = QHBoxLayout()
        buttons.addWidget(self.live_button)
        buttons.addWidget(self.stop_button)
        layout = QVBoxLayout()
        layout.addWidget(self.status)
        layout.addLayout(self.form)
        layout.addWidget(self.picture)
        layout.addLayout(buttons)
        self.setLayout(layout)
        self.live_button.clicked.connect(self._choose)
        self.stop_button.clicked.connect(self._live.stop)
        Relay(self.refresh, self).watch(self._live)
        self.refresh()

    def refresh(self) -> None:
        """Show how the run stands now."""
        live, status = self._live, self._live.status
        self.live_button.setEnabled(not live.is_running)
        self.stop_button.setEnabled(live.is_running and not live.is_left)
        shown = {} if status is None else rows(status)
        for name, value in self.values.items():
            value.show_text(shown.get(name, ""))
        self.form.show_rows({value: bool(value.text()) for value in self.values.values()})
        text = "" if status is None else f"{_STAGES[status.stage]}: {status.says}"
        if live.is_left:
            text = "Stopping" if live.is_running else "Stopped; the product so far is kept"
        elif status is not None and status.stage is Stage.FOLLOWING and status.notes:
            text = f"⚠ {' '.join(status.notes)}"
        self.status.show_text(text, f"{text} ({live.directory})")
        self.status.setVisible(bool(text))
        self._show_picture(live.picture)

    def _show_picture(self, path: Path | None) -> None:
        current = () if path is None else identity(path)
        self.picture.setVisible(bool(current))
        if path is None or current in ((), self._shown):
            return
        pixmap = QPixmap(str(path))
        if not pixmap.isNull():  # it has been removed since
            self._shown = current
            self.picture.show_pixmap(pixmap)
            self.picture.setToolTip(tool_tip("Amplitude beside phase of the object so far.", str(path)))

    def _choose(self) -> None:
        try:
            directory = self._dialogs.get_existing_directory_path(
                self.window(), "Directory of a Scan That Is Recorded, or of a Live Run"
            )
            if directory is not None:
                self._begin(Path(directory))
        except Exception as exc:  # Qt would end the application
            ExceptionDialog.show_exception("Live", exc)
        with contextlib.suppress(RuntimeError):  # the window is gone
            self.refresh()

    def _begin(self, directory: Path) -> None:
        if is_live_run(directory):
            self._reconstructor.follow_live(directory)
        else:
            self._reconstructor.start_live(directory)
