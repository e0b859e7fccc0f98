"""Losses of a training run: kept, handed to Ptychodus, and left beside the model as a table and a plot."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from ptychodus.api.product import LossValue

from ..backends.base import EpochReport
from ..files import replacing

CSV_FILE = "training_history.csv"
PNG_FILE = "training_history.png"

TRAINING = "Training"
VALIDATION = "Validation"


class TrainingHistory:
    """Loss curves, by epoch."""

    def __init__(self) -> None:
        self.curves: dict[str, list[LossValue]] = {TRAINING: [], VALIDATION: []}

    def append(self, report: EpochReport) -> None:
        """Add one epoch."""
        self.curves[TRAINING].append(LossValue(report.epoch, report.train_loss))
        if report.val_loss is not None:
            self.curves[VALIDATION].append(LossValue(report.epoch, report.val_loss))

    def restore(self, history: Mapping[str, list[float]]) -> None:
        """Begin with the losses ``train_loss`` and ``val_loss`` of an earlier run."""
        for label, name in ((TRAINING, "train_loss"), (VALIDATION, "val_loss")):
            self.curves[label][:] = [LossValue(n, value) for n, value in enumerate(history[name], start=1)]

    @property
    def training(self) -> list[LossValue]:
        """A copy of the training losses."""
        return list(self.curves[TRAINING])

    @property
    def validation(self) -> list[LossValue]:
        """A copy of the validation losses."""
        return list(self.curves[VALIDATION])

    def save(self, directory: Path) -> None:
        """Write ``training_history.csv`` and ``training_history.png``, if there is an epoch to write."""
        if not self.curves[TRAINING]:
            return
        for name, content in ((CSV_FILE, self._table().encode()), (PNG_FILE, self._plot())):
            with replacing(directory / name) as file:
                file.write(content)

    def _table(self) -> str:
        validation = {loss.epoch: loss.value for loss in self.curves[VALIDATION]}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", "train_loss", "val_loss"])
        for loss in self.curves[TRAINING]:
            writer.writerow([loss.epoch, loss.value, validation.get(loss.epoch, "")])
        return text.getvalue()

    def _plot(self) -> bytes:
        # No pyplot: this runs beside the application's window, in a thread.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogFormatter

        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        drawn = {label: losses for label, losses in self.curves.items() if losses}
        values = [loss.value for losses in drawn.values() for loss in losses]
        for label, losses in drawn.items():
            axes.plot([loss.epoch for loss in losses], [loss.value for loss in losses], ".-", label=label)
        if all(math.isfinite(value) and value > 0 for value in values):
            axes.set_yscale("log")
            # Not as powers of ten: the parser of such texts may be at work in the window's thread.
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
        axes.set_xlabel("Epoch")
        axes.set_ylabel("Loss")
        axes.grid(alpha=0.3)
        axes.legend()
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=120)
        return image.getvalue()
