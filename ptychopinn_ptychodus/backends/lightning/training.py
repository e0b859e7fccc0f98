"""Running ``lightning.pytorch.Trainer``: callbacks, loggers, checkpoints, and errors that say what to do."""

from __future__ import annotations

import dataclasses
import logging
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger

from ...config import ExecutionConfig, TrainingConfig
from ...data.grouping import PtychoDataContainer
from .. import CHECKPOINT_DIRECTORY
from ..base import Prediction, Progress, StopRequested, out_of_memory, require_logger
from .inference import choose_device, predict
from .module import PtychoPINN_Lightning

logger = logging.getLogger(__name__)
# hardware summaries and advertisements; warnings still come through
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class _HistoryCallback(Callback):
    """Appends each epoch's losses to the module's history, before anything else looks at it."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, PtychoPINN_Lightning)
        for name, values in pl_module.history.items():
            if name in trainer.callback_metrics:
                values.append(float(trainer.callback_metrics[name]))


class _ProgressCallback(Checkpoint):
    """Passes on what happens, and ends training after the batch in hand when asked to.

    A Checkpoint, as these come last: who hears of an epoch, or stops it there, finds its best state on disk.
    """

    def __init__(self, progress: Progress, execution: ExecutionConfig) -> None:
        self.progress = progress
        # processes of its own would take longer to start than a preview takes
        self.execution = dataclasses.replace(
            execution, num_workers=0, persistent_workers=False, prefetch_factor=None
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.progress.batch(batch["amplitude"].shape[:2].numel())

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.progress.batch()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, PtychoPINN_Lightning)
        module = pl_module

        def apply(container: PtychoDataContainer) -> Prediction:
            try:
                return predict(module, container, self.execution, should_stop=self.progress.should_stop)
            finally:
                module.train()

        self.progress.epoch(module.history, module.training_config.nepochs, apply)


def fit(
    module: PtychoPINN_Lightning,
    train_loader: Any,
    validation_loader: Any | None,
    config: TrainingConfig,
    execution: ExecutionConfig,
    progress: Progress | None = None,
) -> pl.Trainer:
    """Train ``module`` in place and leave it at its best state; returns the trainer.

    While training runs, the best state so far is in ``config.output_dir / "checkpoints"``.

    Raises
    ------
    RuntimeError
        If the device is missing or out of memory, or training diverged; the message says what to change.
    """
    device = choose_device(execution.accelerator)
    monitor = execution.checkpoint_monitor_metric if validation_loader is not None else "train_loss"
    hooks: list[Callback] = [_HistoryCallback()]
    hooks.append(
        EarlyStopping(monitor, patience=execution.early_stop_patience, mode=execution.checkpoint_mode)
    )
    best: ModelCheckpoint | None = None
    if execution.enable_checkpointing:
        best = ModelCheckpoint(
            dirpath=Path(config.output_dir) / CHECKPOINT_DIRECTORY,
            filename="best-{epoch:04d}",
            monitor=monitor,
            mode=execution.checkpoint_mode,
            save_top_k=execution.checkpoint_save_top_k,
        )
        hooks.append(best)
    hooks.append(_ProgressCallback(progress or Progress(), execution))
    trainer = pl.Trainer(
        max_epochs=config.nepochs,
        accelerator=execution.accelerator if execution.accelerator == "auto" else device.type,
        devices=execution.devices,
        num_nodes=execution.num_nodes,
        strategy=execution.strategy,
        precision=execution.precision,  # type: ignore[arg-type]
        deterministic=execution.deterministic,
        gradient_clip_val=execution.gradient_clip_val,
        accumulate_grad_batches=execution.accum_steps,
        log_every_n_steps=1,
        default_root_dir=config.output_dir,
        enable_progress_bar=execution.enable_progress_bar,
        # False would refuse _ProgressCallback; beside that, Lightning adds nothing that writes
        enable_checkpointing=True,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        logger=_make_logger(execution, Path(config.output_dir)),
        callbacks=hooks,
        plugins=_cluster_environment(execution),
    )
    try:
        with warnings.catch_warnings():
            # a beamline machine's core count is no advice for a scan that sits in memory
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            trainer.fit(module, train_loader, validation_loader)
    except StopRequested:
        logger.info("Training was stopped after %d epochs.", len(module.history["train_loss"]))
    except torch.OutOfMemoryError as exc:
        raise out_of_memory(config) from exc
    except FloatingPointError as exc:
        raise RuntimeError(str(exc)) from exc
    if best is not None and best.best_model_path:
        # the state only: the history goes on to the end
        content = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(content["state_dict"])
    return trainer


def _cluster_environment(execution: ExecutionConfig) -> LightningEnvironment | None:
    """Lightning's plain environment for one process, else None: what Lightning finds.

    In a batch job with several tasks Lightning takes itself for one of them, and refuses to train on fewer
    devices than there are tasks. A training on one device of one node is no part of such a group.
    """
    return LightningEnvironment() if execution.devices == execution.num_nodes == 1 else None


def discard_checkpoints(trainer: pl.Trainer) -> None:
    """Remove what a finished run kept for the case that it would not finish."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            for path in callback.best_k_models:
                Path(path).unlink(missing_ok=True)
            directory = Path(callback.dirpath or "")
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()


def _make_logger(execution: ExecutionConfig, output_dir: Path) -> Logger | bool:
    backend = execution.logger_backend
    if backend == "none":
        return False
    if backend == "csv":
        return CSVLogger(output_dir, name="logs")
    require_logger(backend)
    if backend == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        # if there is a module of this name, TensorBoard does without TensorFlow: one framework is enough
        sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))

        return TensorBoardLogger(output_dir, name="logs")
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger(experiment_name="ptychopinn-ptychodus", save_dir=str(output_dir / "mlruns"))
