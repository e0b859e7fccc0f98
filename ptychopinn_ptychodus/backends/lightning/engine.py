"""The engine ``pytorch``: trained by Lightning, models in ``.ckpt`` files; importing it imports no torch."""

from __future__ import annotations

import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from ...config import ExecutionConfig, TrainingConfig
from ...data.grouping import PtychoDataContainer
from .. import INSTALL_HINT
from ..base import (
    Engine,
    ModelDescription,
    Prediction,
    ReportEpoch,
    ReportFraction,
    ShouldStop,
    TrainingResult,
)

__all__ = ["LightningEngine"]

MODEL_NAME = "model.ckpt"
_LARGEST_INDEX = 64 * 2**20
"""Bytes; what names the tensors of a model is thousands of times smaller."""

_NEEDED = ("torch", "lightning", "tensordict")


class LightningEngine(Engine):
    """PyTorch, trained by Lightning."""

    name: ClassVar[str] = "pytorch"
    title: ClassVar[str] = "PyTorch Lightning"
    model_suffix: ClassVar[str] = ".ckpt"
    model_filter: ClassVar[str] = "PtychoPINN Lightning Models (*.ckpt)"

    def problem(self) -> str | None:
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if not missing:
            return None
        return (
            f"PyTorch backend selected, but it is unavailable: {', '.join(missing)} not installed. "
            f"Install it with: {INSTALL_HINT}"
        )

    def accelerators(self) -> list[str]:
        self.require()
        from .inference import available_devices

        return available_devices()

    def recognises(self, path: Path) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                index = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                if len(index) != 1 or archive.getinfo(index[0]).file_size > _LARGEST_INDEX:
                    return False
                # the manifest's key and the names of Lightning's own entries, as stored, unparsed
                content = archive.read(index[0])
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError):
            return False  # damaged, encrypted, or no archive at all
        return b"ptychopinn_ptychodus" in content and b"state_dict" in content

    def describe(self, path: Path) -> ModelDescription:
        self.require()
        from .checkpoint import describe

        return describe(path)

    def train(
        self,
        train: PtychoDataContainer,
        validation: PtychoDataContainer | None,
        config: TrainingConfig,
        execution: ExecutionConfig,
        *,
        model_path: Path,
        report: ReportEpoch | None = None,
        should_stop: ShouldStop | None = None,
    ) -> TrainingResult:
        self.require()
        from .checkpoint import save_model
        from .components import _train_with_lightning
        from .training import ProgressCallback, discard_checkpoints

        progress = ProgressCallback(report, should_stop)
        results = _train_with_lightning(train, validation, config, execution, [progress])
        save_model(results["models"]["lightning_module"], model_path)
        discard_checkpoints(results["trainer"])
        return TrainingResult(model_path, results["history"], progress.stopped)

    def predict(
        self,
        model_path: Path,
        container: PtychoDataContainer,
        execution: ExecutionConfig,
        *,
        report: ReportFraction | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Prediction:
        self.require()
        from .checkpoint import open_model
        from .inference import predict_patches

        module = open_model(model_path)
        patches = predict_patches(module, container, execution, report=report, should_stop=should_stop)
        return Prediction(patches, module.counts_probe().detach().cpu().numpy())
