"""The example engine with one fault each, and the check of the suite that finds it.

It is run by ``test_engine_suite.py`` where the example is installed, and collected by nobody else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from one_step_engine import OneStepEngine

from ptychopinn_ptychodus.backends.base import ModelDescription, ModelFileError, ModelState, Prediction
from ptychopinn_ptychodus.config import TrainingConfig
from ptychopinn_ptychodus.testing.engine import EngineContract


class NamesAreThere(OneStepEngine):
    model_suffix = "one_step.npz"


class EntryPointLeadsToTheEngine(OneStepEngine):
    """The entry point leads to the class that this one is derived from."""


class AcceleratorsAreKnown(OneStepEngine):
    def accelerators(self) -> list[str]:
        return ["fingers"]


class LookingAtAModelImportsNoFramework(OneStepEngine):
    needed = ("json",)


class TrainingTellsOfBatchesAndEpochs(OneStepEngine):
    def train(self, *arguments: Any, on_epoch: Any = None, **options: Any) -> Any:
        return super().train(*arguments, **options)


class PreviewsArePredictions(OneStepEngine):
    def train(self, *arguments: Any, preview: Any = None, **options: Any) -> Any:
        nothing = Prediction(np.zeros(1, np.complex64), np.zeros(1, np.complex64))
        return super().train(
            *arguments, preview=lambda report, apply: preview(report, lambda _: nothing), **options
        )


class TrainingStopsAndLeavesAModel(OneStepEngine):
    def train(self, *arguments: Any, should_stop: Any = None, **options: Any) -> Any:
        return super().train(*arguments, **options)


class ModelDescribesItself(OneStepEngine):
    def describe(self, path: Path) -> ModelDescription:
        return replace(super().describe(path), history={"train_loss": [], "val_loss": []})


class ModelIsRecognisedByThisEngineAlone(OneStepEngine):
    def recognises(self, path: Path) -> bool:
        return path.name.endswith(self.model_suffix)


class ForeignFileIsRefused(OneStepEngine):
    def recognises(self, path: Path) -> bool:
        return True


class DamagedFileIsRefused(OneStepEngine):
    def describe(self, path: Path) -> ModelDescription:
        try:
            return super().describe(path)
        except ModelFileError as exc:
            raise ModelFileError("This is no model.") from exc


class MissingFileIsToldOf(OneStepEngine):
    def describe(self, path: Path) -> ModelDescription:
        try:
            return super().describe(path)
        except FileNotFoundError as exc:
            raise ModelFileError(str(exc)) from exc


class ModelIsTheSameReadAndWritten(OneStepEngine):
    def read_state(self, path: Path) -> ModelState:
        return ModelState(self.describe(path), TrainingConfig(), {"probe": self._open(path)[1]})

    def write_state(self, state: ModelState, path: Path) -> None:
        """It forgets the history."""
        empty = replace(state.description, history={"train_loss": [], "val_loss": []})
        self._write(path, empty, state.arrays["probe"])


class PredictionIsAnObjectUnderAProbeInCounts(OneStepEngine):
    def predict(self, *arguments: Any, **options: Any) -> Prediction:
        prediction = super().predict(*arguments, **options)
        return replace(prediction, probe=prediction.probe / 1000)


class PredictionStops(OneStepEngine):
    def predict(self, *arguments: Any, should_stop: Any = None, **options: Any) -> Prediction:
        return super().predict(*arguments, **options)


class ModelForOtherGroupsIsRefused(OneStepEngine):
    def predict(self, *arguments: Any, **options: Any) -> Prediction:
        try:
            return super().predict(*arguments, **options)
        except ModelFileError as exc:
            raise ValueError("wrong shape") from exc


BROKEN = OneStepEngine.__subclasses__()

for _engine in BROKEN:
    globals()[f"Test{_engine.__name__}"] = type(
        f"Test{_engine.__name__}", (EngineContract,), {"engine": _engine, "__module__": __name__}
    )
