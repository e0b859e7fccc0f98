"""The engine ``tensorflow``: Keras models in ``.wts.h5.zip`` bundles; importing it imports no TensorFlow."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ...config import ExecutionConfig, TrainingConfig
from ...data.grouping import PtychoDataContainer
from .. import TENSORFLOW_HINT
from ..base import (
    Engine,
    EngineUnavailableError,
    ModelDescription,
    ModelState,
    OnBatch,
    OnEpoch,
    OnProgress,
    Prediction,
    Preview,
    Progress,
    ShouldStop,
    TrainingResult,
)

__all__ = ["TensorFlowEngine"]


class TensorFlowEngine(Engine):
    """TensorFlow, trained by Keras."""

    name: ClassVar[str] = "tensorflow"
    title: ClassVar[str] = "TensorFlow"
    model_suffix: ClassVar[str] = ".wts.h5.zip"
    model_filter: ClassVar[str] = "PtychoPINN TensorFlow Models (*.wts.h5.zip wts.h5.zip)"
    framework: ClassVar[str] = "TensorFlow"
    needed: ClassVar[tuple[str, ...]] = ("tensorflow", "keras")
    imported: ClassVar[tuple[str, ...]] = (f"{__package__}.training",)
    install_hint: ClassVar[str] = TENSORFLOW_HINT

    def load(self) -> None:
        """As for every engine; Keras is made to run on TensorFlow."""
        self.require()
        # Keras runs on what this names, else on what a file in the user's home does; once imported, for good
        os.environ["KERAS_BACKEND"] = self.name
        if "keras" in sys.modules and (used := sys.modules["keras"].config.backend()) != self.name:
            raise EngineUnavailableError(
                f"TensorFlow backend selected, but it is unavailable: Keras runs on {used!r} in this "
                "process. Start a new one with the environment variable KERAS_BACKEND=tensorflow."
            )
        # else the last words of a process that dies are buried under what TensorFlow was compiled for
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        super().load()

    def accelerators(self) -> list[str]:
        self.load()
        from .inference import available_devices

        return available_devices()

    def recognises(self, path: Path) -> bool:
        from .bundle import looks_like_bundle

        return looks_like_bundle(path)

    def describe(self, path: Path) -> ModelDescription:
        return self.read_state(path).description

    def read_state(self, path: Path) -> ModelState:
        from .bundle import read_bundle

        return read_bundle(path)

    def write_state(self, state: ModelState, path: Path) -> None:
        self.load()
        from .bundle import save_model
        from .module import PtychoPINN_TensorFlow

        save_model(PtychoPINN_TensorFlow.from_state(state), path)

    def workflow(self, name: str) -> Callable[..., Any]:
        self.load()
        from . import components

        function: Callable[..., Any] = getattr(components, name)
        return function

    def train(
        self,
        train: PtychoDataContainer,
        validation: PtychoDataContainer | None,
        config: TrainingConfig,
        execution: ExecutionConfig,
        *,
        model_path: Path,
        on_batch: OnBatch | None = None,
        on_epoch: OnEpoch | None = None,
        should_stop: ShouldStop | None = None,
        preview: Preview | None = None,
    ) -> TrainingResult:
        self.load()
        from .components import _train_with_keras, keep_model

        progress = Progress(on_batch=on_batch, on_epoch=on_epoch, should_stop=should_stop, preview=preview)
        results = _train_with_keras(train, validation, config, execution, progress)
        keep_model(results, model_path)
        if results["best_state"] is not None:
            results["best_state"].discard()
        return TrainingResult(model_path, results["history"], progress.stopped)

    def predict(
        self,
        model_path: Path,
        container: PtychoDataContainer,
        execution: ExecutionConfig,
        *,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Prediction:
        self.load()
        from .bundle import open_model
        from .inference import on_device, predict

        # the weights, too, belong where they are used
        with on_device(execution.accelerator):
            model = open_model(model_path, execution, container)
            return predict(model, container, execution, on_progress=on_progress, should_stop=should_stop)
