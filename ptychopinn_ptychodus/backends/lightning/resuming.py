"""The state of a Lightning training after an epoch, and a training that is set to where another one was.

Lightning's own checkpoints of trainings are pickles, and it reads them as such. Here it is arrays and plain
values that are kept (:mod:`..training_state`), and handed to the objects that they are of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray

from ..base import TrainingState
from ..beginning import Course
from ..reporter import TrainingReporter
from . import module as modules
from .checkpoint import save_model

_PLATEAU = torch.optim.lr_scheduler.ReduceLROnPlateau


class KeepState(Checkpoint):
    """Keeps the state after each epoch, and sets optimiser and schedule to where they were.

    It is a ``Checkpoint`` since Lightning calls these last: the best state so far is on disk by then.
    """

    def __init__(self, course: Course, reporter: TrainingReporter) -> None:
        self.course = course
        self.reporter = reporter
        state = course.state
        self.best: dict[str, NDArray[Any]] = {} if state is None else state.named("best")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = self.course.state
        if state is None:
            return
        _set_optimizer(trainer.optimizers[0], state)
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            scheduler.load_state_dict(dict(state.values["scheduler"]))
            if isinstance(scheduler, _PLATEAU):
                # Lightning tells it of an epoch only after the state has been kept
                losses = state.history["val_loss" if config.monitor == "val_loss" else "train_loss"]
                scheduler.step(losses[-1])
        trainer.precision_plugin.load_state_dict(dict(state.values["precision"]))
        if "order" in state.arrays:
            # after Lightning has made an iterator for a first epoch, and before it makes that of this one
            generator = cast(Any, trainer.train_dataloader).generator
            generator.set_state(torch.from_numpy(np.array(state.arrays["order"])))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = cast("modules.PtychoPINN_Lightning", pl_module)
        early, best = _callbacks(cast(Any, trainer).callbacks)
        epochs = len(module.history["train_loss"])
        is_best = best is not None and _epoch_of(best.best_model_path) == epochs
        if is_best:  # also where nothing is written now: later states need it
            self.best = module.arrays()
        if not self.course.is_due:
            return
        arrays = {f"model/{name}": array for name, array in module.arrays().items()}
        arrays |= {f"best/{name}": array for name, array in self.best.items()}
        optimizer = trainer.optimizers[0].state_dict()
        for index, slots in optimizer["state"].items():
            arrays |= {f"optimizer/{index}/{name}": value.cpu().numpy() for name, value in slots.items()}
        loader = cast(Any, trainer.train_dataloader)
        if loader.generator is not None:
            arrays["order"] = loader.generator.get_state().numpy()
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        values = {
            "groups": optimizer["param_groups"],
            # in which factors that are functions of the step are None: they follow from what was asked for
            "scheduler": dict(schedulers[0].state_dict()) if schedulers else {},
            "precision": trainer.precision_plugin.state_dict(),
            "steps": trainer.global_step,
            "early": {"wait": early.wait_count, "best": float(early.best_score)},
            "best": None if best is None else _kept(best),
        }
        self.course.keep(module.history, self.reporter.seconds, self.reporter.patterns, values, arrays)


def resume(state: TrainingState, module: modules.PtychoPINN_Lightning, callbacks: Sequence[Callback]) -> None:
    """Set a module that is about to be fitted, and what goes with it, to where a training was interrupted."""
    early, best = _callbacks(callbacks)
    for name, values in state.history.items():
        module.history[name][:] = values
    if best is not None and state.values["best"]:
        _set_best(best, state, module)
    module.set_arrays(state.named("model"))
    early.wait_count = int(state.values["early"]["wait"])
    early.best_score = torch.tensor(state.values["early"]["best"])


def rewind(trainer: Any, state: TrainingState) -> None:
    """Have a trainer that is about to fit begin after the epochs of ``state``, and count on."""
    loop = trainer.fit_loop
    for name in ("ready", "started", "processed", "completed"):
        setattr(loop.epoch_progress.current, name, state.epochs)
    steps = int(state.values["steps"])
    loop.epoch_loop._batches_that_stepped = steps
    optimizer = loop.epoch_loop.automatic_optimization.optim_progress.optimizer
    optimizer.step.total.ready = optimizer.step.total.completed = steps


def _callbacks(callbacks: Sequence[Callback]) -> tuple[EarlyStopping, ModelCheckpoint | None]:
    early = next(each for each in callbacks if isinstance(each, EarlyStopping))
    return early, next((each for each in callbacks if isinstance(each, ModelCheckpoint)), None)


def _kept(best: ModelCheckpoint) -> dict[str, Any]:
    """The best states, by the names of their files, and what they are worth."""
    scores = {Path(path).name: float(score) for path, score in best.best_k_models.items()}
    return {"best": Path(best.best_model_path).name, "scores": scores}


def _epoch_of(path: str) -> int:
    """Number of epochs, from 1, after which a checkpoint was written; 0 if there is none."""
    return int(Path(path).stem.partition("epoch=")[2].partition("-")[0]) + 1 if path else 0


def _set_best(best: ModelCheckpoint, state: TrainingState, module: modules.PtychoPINN_Lightning) -> None:
    """Have the best state so far on disk, as if this training had left it there."""
    directory = Path(cast(Any, best.dirpath))
    kept: Mapping[str, Any] = state.values["best"]
    path = directory / kept["best"]
    if not path.is_file():  # a training that is stopped makes it its model
        module.set_arrays(state.named("best"))
        save_model(module, path)
    scores = {
        str(directory / name): torch.tensor(float(score))
        for name, score in kept["scores"].items()
        if (directory / name).is_file()
    }
    best.best_model_path = str(path)
    best.best_model_score = scores[str(path)]
    best.best_k_models = scores
    worst = max if best.mode == "min" else min
    best.kth_best_model_path = worst(scores, key=lambda name: float(scores[name]))
    best.kth_value = scores[best.kth_best_model_path]


def _set_optimizer(optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
    slots: dict[int, dict[str, Any]] = {}
    for name, array in state.named("optimizer").items():
        index, _, slot = name.partition("/")
        slots.setdefault(int(index), {})[slot] = torch.from_numpy(np.array(array))
    optimizer.load_state_dict({"state": slots, "param_groups": state.values["groups"]})
