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
from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning
from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData

EXECUTION = ExecutionConfig(
    accelerator="cpu",
    learning_rate=2e-3,
    scheduler="one_cycle",
    gradient_clip_val=1.0,
    logger_backend="none",
)


def train(
    data: RawData | PtychoDataContainer,
    config: TrainingConfig,
    execution: ExecutionConfig = EXECUTION,
    validation: PtychoDataContainer | None = None,
) -> tuple[Any, float]:
    """The trained PyTorch module, and the CPU seconds that it took. ``config.model.N`` is the data's."""
    trained: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as output:
        config = replace(config, model=replace(config.model, N=data.N), output_dir=Path(output))
        seconds = cpu_seconds(
            lambda: trained.update(train_cdi_model_torch(data, validation, config, execution))
        )
    return trained["models"]["lightning_module"], seconds


def apply(
    module: Any, raw: RawData, config: TrainingConfig, shape: tuple[int, int]
) -> NDArray[np.complexfloating]:
    """The object (H, W) that the network makes of a scan, every pattern an anchor; no refinement."""
    container = _grouped(raw, config)
    return predict(module, container, EXECUTION).stitch(container, shape).object


def on_scan(module: Any, raw: RawData, config: TrainingConfig) -> PtychoPINN_Lightning:
    """A module for any probe as it is applied to a scan: its network, and the probe and scale of the scan."""
    fresh = untrained(raw, config)
    fresh.set_arrays({name: a for name, a in module.arrays().items() if name.startswith("network.")})
    return fresh


def untrained(raw: RawData, config: TrainingConfig) -> PtychoPINN_Lightning:
    """A module that has learnt nothing, with the probe and the scale of a scan."""
    return PtychoPINN_Lightning.for_data(_grouped(raw, config), config).eval()


def _grouped(raw: RawData, config: TrainingConfig) -> PtychoDataContainer:
    return raw.generate_grouped_data(
        raw.N, config.neighbor_count, None, gridsize=config.model.gridsize, seed=config.subsample_seed
    )
