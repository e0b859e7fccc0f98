"""The engine ``pytorch``: trained by Lightning, models in ``.ckpt`` files; importing it imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ...config import ExecutionConfig, TrainingConfig
from ...data.grouping import PtychoDataContainer
from .. import TORCH_HINT
from ..base import (
    Engine,
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

__all__ = ["LightningEngine"]


class LightningEngine(Engine):
    """PyTorch, trained by Lightning."""

    name: ClassVar[str] = "pytorch"
    title: ClassVar[str] = "PyTorch Lightning"
    model_suffix: ClassVar[str] = ".ckpt"
    model_filter: ClassVar[str] = "PtychoPINN Lightning Models (*.ckpt)"
    framework: ClassVar[str] = "PyTorch"
    needed: ClassVar[tuple[str, ...]] = ("torch", "lightning", "tensordict")
    imported: ClassVar[tuple[str, ...]] = (
        "lightning.pytorch",
        f"{__package__}.module",
        f"{__package__}.training",
    )
    install_hint: ClassVar[str] = TORCH_HINT

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
        preview: Preview | None = None,
    ) -> TrainingResult:
        self.load()
        from .components import _train_with_lightning, keep_model
        from .training import discard_checkpoints

        progress = Progress(on_batch=on_batch, on_epoch=on_epoch, should_stop=should_stop, preview=preview)
        results = _train_with_lightning(train, validation, config, execution, progress)
        keep_model(results, model_path)
        discard_checkpoints(results["trainer"])
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
        from .checkpoint import open_model
        from .inference import predict

        module = open_model(model_path, container)
        return predict(module, container, execution, on_progress=on_progress, should_stop=should_stop)
