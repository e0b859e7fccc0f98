"""The engine ``tensorflow``: Keras models in ``.wts.h5.zip`` bundles; importing it imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ...config import ExecutionConfig, TrainingConfig
from ...data.container import PtychoDataContainer
from ..base import (
    Beginning,
    Engine,
    ModelDescription,
    ModelState,
    OnBatch,
    OnEpoch,
    OnProgress,
    Prediction,
    PreviewCallback,
    ShouldStop,
    TrainingResult,
)
from ..beginning import Course
from ..reporter import TrainingReporter
from .framework import FRAMEWORK
from .names import MODEL_SUFFIX, NAME

__all__ = ["TensorFlowEngine"]


class TensorFlowEngine(Engine):
    """TensorFlow, trained by Keras."""

    name: ClassVar[str] = NAME
    title: ClassVar[str] = "TensorFlow"
    model_suffix: ClassVar[str] = MODEL_SUFFIX
    model_filter: ClassVar[str] = "PtychoPINN TensorFlow Models (*.wts.h5.zip wts.h5.zip)"
    framework: ClassVar[str] = FRAMEWORK.title
    needed: ClassVar[tuple[str, ...]] = FRAMEWORK.needed
    imported: ClassVar[tuple[str, ...]] = FRAMEWORK.imported
    install_hint: ClassVar[str] = FRAMEWORK.install_hint
    takes_beginning: ClassVar[bool] = True

    def load(self) -> None:
        """As for every engine; Keras is made to run on TensorFlow."""
        self.require()
        FRAMEWORK.load()

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
        preview: PreviewCallback | None = None,
        beginning: Beginning | None = None,
    ) -> TrainingResult:
        self.load()
        from . import training

        reporter = TrainingReporter(
            on_batch=on_batch, on_epoch=on_epoch, should_stop=should_stop, preview=preview
        )
        course = Course(beginning, NAME, train, validation, config, execution)
        trained = training.train(train, validation, config, execution, reporter, course)
        training.keep_model(trained.model, model_path, trained.run, trained.group)
        if trained.best is not None:
            trained.best.discard()
        if not reporter.stopped:
            course.over()
        return TrainingResult(model_path, trained.history, reporter.stopped)

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
        from .inference import predict_with

        return predict_with(
            model_path, container, execution, on_progress=on_progress, should_stop=should_stop
        )
