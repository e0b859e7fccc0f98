"""The state of a Keras training after an epoch, and a training that is set to where another one was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..base import ModelFileError, TrainingState
from ..beginning import Course
from ..reporter import TrainingReporter
from .best_state import BestState
from .bundle import save_model
from .module import PtychoPINN_TensorFlow

_OF_CALLBACKS = ("best", "wait", "cooldown_counter")
"""What Keras' callbacks that follow a loss remember, as far as they do."""


class KeepState(keras.callbacks.Callback):
    """Keeps the state after each epoch, and sets those callbacks that follow a loss to where they were.

    It comes after them: each forgets what it knew when a training begins.
    """

    def __init__(
        self,
        course: Course,
        reporter: TrainingReporter,
        followers: Sequence[keras.callbacks.Callback],
        best: BestState | None,
    ) -> None:
        super().__init__()
        self.course = course
        self.reporter = reporter
        self.followers = followers
        self.best = best

    def on_train_begin(self, logs: Any = None) -> None:
        if self.course.state is None:
            return
        remembered = self.course.state.values["callbacks"]
        for callback, values in zip(self.followers, remembered, strict=True):
            for name, value in values.items():
                setattr(callback, name, value)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.course.is_due:
            return
        model, best = self.model, self.best
        arrays = {f"model/{name}": array for name, array in model.arrays().items()}
        if best is not None and best.best is not None:
            arrays |= {f"best/{name}": array for name, array in best.best.items()}
        arrays |= {
            f"optimizer/{number}": np.asarray(variable.numpy())
            for number, variable in enumerate(_variables(model))
        }
        values = {
            "callbacks": [
                {name: _plain(vars(callback)[name]) for name in _OF_CALLBACKS if name in vars(callback)}
                for callback in self.followers
            ],
            "best": [] if best is None else [[value, path.name] for value, path in best.saved],
            # of the probe with which the training began
            "probe_rate": model.probe_rate,
        }
        self.course.keep(model.loss_history, self.reporter.seconds, self.reporter.patterns, values, arrays)


def resume(state: TrainingState, model: PtychoPINN_TensorFlow, best: BestState | None) -> None:
    """Set a model with its optimiser, and its best states, to where a training was interrupted.

    Raises
    ------
    ModelFileError
        If the state holds another optimiser.
    """
    for name, losses in state.history.items():
        model.loss_history[name] = list(losses)
    if best is not None and state.values["best"]:
        _set_best(best, state, model)
    model.begin_with(state.named("model"))
    model.configure_optimizer(float(state.values["probe_rate"]))
    variables, kept = _variables(model), state.named("optimizer")
    if [tuple(v.shape) for v in variables] != [kept.get(str(n), np.zeros(0)).shape for n in range(len(kept))]:
        raise ModelFileError(
            "The interrupted training has an optimiser of another kind, perhaps of another version of Keras: "
            "train without resuming."
        )
    for number, variable in enumerate(variables):
        variable.assign(kept[str(number)])


def _variables(model: PtychoPINN_TensorFlow) -> list[keras.Variable]:
    """Everything that the optimiser keeps, in an order that follows from the model."""
    return list(model.optimizer.variables)


def _set_best(best: BestState, state: TrainingState, model: PtychoPINN_TensorFlow) -> None:
    """Have the best state so far on disk, as if this training had left it there."""
    arrays: Mapping[str, NDArray[Any]] = state.named("best")
    best.best = dict(arrays)
    kept = [(float(value), best.directory / name) for value, name in state.values["best"]]
    first = kept[0][1]
    if not first.is_file():  # a training that is stopped makes it its model
        model.begin_with(arrays)
        save_model(model, first)
    best.saved = [(value, path) for value, path in kept if path.is_file()]


def _plain(value: Any) -> Any:
    """A number of whatever kind as one of Python's, and None as it is."""
    return None if value is None else int(value) if isinstance(value, int) else _real(value)


def _real(value: Any) -> float | None:
    number = float(value)
    return number if not math.isnan(number) else None
