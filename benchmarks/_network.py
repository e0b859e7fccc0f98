"""One network in this process: trained on a scan, applied to a scan, stitched as the plugin does it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _tables import cpu_seconds
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.lightning.components import train_cdi_model_torch
from ptychopinn_ptychodus.backends.lightning.inference import predict
from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig
from ptychopinn_ptychodus.data.raw import RawData

EXECUTION = ExecutionConfig(
    accelerator="cpu",
    learning_rate=2e-3,
    scheduler="one_cycle",
    gradient_clip_val=1.0,
    logger_backend="none",
)


def train(raw: RawData, config: TrainingConfig, execution: ExecutionConfig = EXECUTION) -> tuple[Any, float]:
    """The trained PyTorch module, and the CPU seconds that it took. ``config.model.N`` is the scan's."""
    trained: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as output:
        config = replace(config, model=replace(config.model, N=raw.N), output_dir=Path(output))
        seconds = cpu_seconds(lambda: trained.update(train_cdi_model_torch(raw, None, config, execution)))
    return trained["models"]["lightning_module"], seconds


def apply(
    module: Any, raw: RawData, config: TrainingConfig, shape: tuple[int, int]
) -> NDArray[np.complexfloating]:
    """The object (H, W) that the network makes of a scan, every pattern an anchor; no refinement."""
    container = raw.generate_grouped_data(
        raw.N, config.neighbor_count, None, gridsize=config.model.gridsize, seed=config.subsample_seed
    )
    return predict(module, container, EXECUTION).stitch(container, shape).object
