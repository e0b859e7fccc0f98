"""What Lightning calls during a training: losses are recorded, the best state is kept, progress is told."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint

from ...config import ExecutionConfig, TrainingConfig
from ...data.container import PtychoDataContainer
from .. import CHECKPOINT_DIRECTORY
from ..base import Prediction
from ..beginning import Course
from ..mlflow_run import MlflowRun
from ..reporter import StopRequested, TrainingReporter, stopping_together
from .inference import predict
from .resuming import KeepState

if TYPE_CHECKING:
    from .module import PtychoPINN_Lightning

History = dict[str, list[float]]
"""Losses by name, ``train_loss`` and ``val_loss``: one value an epoch, as far as a module logs them."""


class HistoryCallback(Callback):
    """Appends each epoch's losses to ``history``, before anything else reads it.

    A strategy such as ``ddp_spawn`` trains in another process, on copies of all objects here. From there the
    losses, and the names of the checkpoints that were kept, are returned in the file ``returned``.
    """

    def __init__(self, history: History, run: MlflowRun | None, returned: Path) -> None:
        self.history = history
        self.run = run
        self.returned = returned
        self.process = os.getpid()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        losses = {
            name: float(trainer.callback_metrics[name])
            for name in self.history
            if name in trainer.callback_metrics
        }
        for name, value in losses.items():
            self.history[name].append(value)
        if self.run is not None and trainer.is_global_zero:
            self.run.losses(trainer.current_epoch + 1, losses)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if os.getpid() != self.process and trainer.is_global_zero:
            kept = [path for callback in _kept_by(trainer) for path in callback.best_k_models]
            self.returned.parent.mkdir(parents=True, exist_ok=True)
            self.returned.write_text(json.dumps({"history": self.history, "checkpoints": kept}))

    def take_back(self, trainer: Any) -> bool:
        """Take history and checkpoints over from another process; True if one has trained."""
        if not self.returned.is_file():
            return False
        found = json.loads(self.returned.read_text())
        self.returned.unlink()
        for name, values in found["history"].items():
            self.history[name][:] = values
        for callback in _kept_by(trainer)[:1]:
            callback.best_k_models = dict.fromkeys(found["checkpoints"], torch.zeros(()))
        return True


class _BestStateCallback(Callback):
    """Leaves the module at its best state; the history goes on to the end."""

    def __init__(self, best: ModelCheckpoint) -> None:
        self.best = best

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.best.best_model_path:
            if trainer.is_global_zero:
                content = torch.load(self.best.best_model_path, map_location="cpu", weights_only=True)
                pl_module.load_state_dict(content["state_dict"])
            if trainer.world_size > 1:  # a node of its own may not see the file
                for tensor in pl_module.state_dict().values():
                    tensor.copy_(trainer.strategy.broadcast(tensor.cpu()))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, StopRequested):
            self.on_fit_end(trainer, pl_module)


class _ReporterCallback(Checkpoint):
    """Reports batches and epochs, and ends the training after the current batch when asked to.

    It is a ``Checkpoint``, since Lightning calls these last: when an epoch is reported, its best state is on
    disk already.
    """

    def __init__(self, reporter: TrainingReporter, execution: ExecutionConfig, course: Course) -> None:
        self.reporter = reporter
        self.taken = (0.0, 0) if course.state is None else (course.state.seconds, course.state.patterns)
        # starting further processes would take longer than the preview itself, and other devices learn
        self.execution = dataclasses.replace(
            execution, devices=1, num_workers=0, persistent_workers=False, prefetch_factor=None
        )

    def __getstate__(self) -> dict[str, Any]:
        # in another process (``ddp_spawn``) nobody can be told, and nobody can ask it to stop
        return {**vars(self), "reporter": TrainingReporter()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.reporter.start(*self.taken)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        groups, members = batch["amplitude"].shape[:2]
        drawn = batch.get("drawn", None)  # by all processes, if there are several
        patterns = members * (groups if drawn is None else int(drawn[0]))
        with self._together(trainer):
            self.reporter.batch(patterns)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        with self._together(trainer):
            self.reporter.batch()

    @contextmanager
    def _together(self, trainer: pl.Trainer) -> Iterator[None]:
        """If one of several processes leaves this block because it is to stop, all of them do."""
        if trainer.world_size == 1:
            yield
            return

        def any_stops(stops: bool) -> bool:
            found = bool(trainer.strategy.reduce_boolean_decision(stops, all=False))
            self.reporter.stopped = self.reporter.stopped or found
            return found

        with stopping_together(any_stops):
            yield

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = cast("PtychoPINN_Lightning", pl_module)

        def apply(container: PtychoDataContainer) -> Prediction:
            try:
                return predict(module, container, self.execution, should_stop=self.reporter.should_stop)
            finally:
                module.train()

        with self._together(trainer):
            self.reporter.epoch(module.history, module.training_config.nepochs, apply)


def own_callbacks(
    config: TrainingConfig,
    execution: ExecutionConfig,
    reporter: TrainingReporter,
    *,
    validated: bool,
    course: Course,
) -> list[Callback]:
    """The callbacks that stop this package's module early, keep its best state and report its progress.

    They rely on the losses that it logs, and another module is trained without them. During the training the
    best state so far is in ``config.output_dir / "checkpoints"``.
    """
    monitor = execution.checkpoint_monitor_metric if validated else "train_loss"
    callbacks: list[Callback] = [
        EarlyStopping(monitor, patience=execution.early_stop_patience, mode=execution.checkpoint_mode)
    ]
    if execution.enable_checkpointing:
        best = ModelCheckpoint(
            dirpath=Path(config.output_dir) / CHECKPOINT_DIRECTORY,
            filename="best-{epoch:04d}",
            monitor=monitor,
            mode=execution.checkpoint_mode,
            save_top_k=execution.checkpoint_save_top_k,
        )
        callbacks += [_BestStateCallback(best), best]
    # after the best state, before anybody hears of the epoch or stops there
    if course.is_kept or course.state is not None:
        callbacks.append(KeepState(course, reporter))
    return [*callbacks, _ReporterCallback(reporter, execution, course)]


def _kept_by(trainer: Any) -> list[ModelCheckpoint]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]


def discard_checkpoints(trainer: pl.Trainer) -> None:
    """Remove the checkpoints of a finished run, which were kept for the case that it would not finish."""
    for callback in _kept_by(trainer):
        for path in map(Path, callback.best_k_models):
            path.unlink(missing_ok=True)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
