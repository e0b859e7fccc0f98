"""The best states of a training, on disk while it lasts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras

from ...config import ExecutionConfig
from .bundle import save_model
from .names import MODEL_SUFFIX


class BestState(keras.callbacks.Callback):
    """Keeps the best states of a run as bundles in ``directory``; sets the model to the best in the end.

    Of several processes that train one model, only the first one ``writes``.
    """

    def __init__(
        self, directory: Path, execution: ExecutionConfig, monitor: str, *, writes: bool = True
    ) -> None:
        super().__init__()
        self.writes = writes
        self.directory = directory
        self.keep = execution.checkpoint_save_top_k
        self.sign = 1.0 if execution.checkpoint_mode == "min" else -1.0
        self.monitor = monitor
        self.saved: list[tuple[float, Path]] = []
        self.best: dict[str, Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = self.sign * float(logs[self.monitor])
        if not math.isfinite(value) or (len(self.saved) >= self.keep and value >= self.saved[-1][0]):
            return
        if not self.saved or value < self.saved[0][0]:
            self.best = self.model.arrays()
        path = self.directory / f"best-epoch={epoch:04d}{MODEL_SUFFIX}"
        if self.writes:
            save_model(self.model, path)
        self.saved = sorted([*self.saved, (value, path)])
        for _, worse in self.saved[self.keep :] if self.writes else ():
            worse.unlink(missing_ok=True)
        self.saved = self.saved[: self.keep]

    def restore(self) -> None:
        """Set the model to its best state; the history goes on to the end."""
        if self.best is not None:
            self.model.set_arrays(self.best)

    def discard(self) -> None:
        """Remove what was kept for the case that the run would not finish."""
        if not self.writes:
            return
        for _, path in self.saved:
            path.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()
