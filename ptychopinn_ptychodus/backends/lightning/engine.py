"""The engine ``pytorch``: trained by Lightning, models in ``.ckpt`` files; importing it imports no torch."""

from __future__ import annotations

import sys
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

__all__ = ["LightningEngine"]


class LightningEngine(Engine):
    """PyTorch, trained by Lightning."""

    name: ClassVar[str] = NAME
    title: ClassVar[str] = "PyTorch Lightning"
    model_suffix: ClassVar[str] = MODEL_SUFFIX
    model_filter: ClassVar[str] = "PtychoPINN Lightning Models (*.ckpt)"
    framework: ClassVar[str] = FRAMEWORK.title
    needed: ClassVar[tuple[str, ...]] = FRAMEWORK.needed
    imported: ClassVar[tuple[str, ...]] = FRAMEWORK.imported
    install_hint: ClassVar[str] = FRAMEWORK.install_hint
    takes_beginning: ClassVar[bool] = True

    def accelerators(self) -> list[str]:
        self.load()
        from .inference import available_devices

        return available_devices()

    def recognises(self, path: Path) -> bool:
        from .checkpoint import looks_like_checkpoint

        return looks_like_checkpoint(path)

    def describe(self, path: Path) -> ModelDescription:
        return self.read_state(path).description

    def read_state(self, path: Path) -> ModelState:
        from .checkpoint import read_state

        return read_state(path)

    def write_state(self, state: ModelState, path: Path) -> None:
        self.load()
        from .checkpoint import save_model
        from .module import PtychoPINN_Lightning

        save_model(PtychoPINN_Lightning.from_state(state), path)

    def workflow(self, name: str) -> Callable[..., Any]:
        self.load()
        from . import components

        function: Callable[..., Any] = getattr(components, f"{name}_torch")
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
        from .callbacks import discard_checkpoints

        reporter = TrainingReporter(
            on_batch=on_batch, on_epoch=on_epoch, should_stop=should_stop, preview=preview
        )
        course = Course(beginning, NAME, train, validation, config, execution)
        trained = training.train(train, validation, config, execution, reporter, course=course)
        training.keep_model(trained.module, trained.trainer, model_path, trained.run)
        if trained.trainer.is_global_zero:
            discard_checkpoints(trained.trainer)
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

    def rest(self) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
