"""Applying a trained model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...config import ExecutionConfig
from ...data.grouping import PtychoDataContainer
from ..base import Prediction, ReportFraction, ShouldStop
from ..physics import require_fit
from ..recipe import PATTERNS_PER_BATCH
from .loaders import GroupDataset, build_loader
from .module import PtychoPINN_Lightning


def available_devices() -> list[str]:
    """Torch device names usable on this machine, best first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def choose_device(accelerator: str) -> torch.device:
    """The device that the ``accelerator`` setting stands for.

    Raises
    ------
    RuntimeError
        If it is not there; the message lists those that are.
    """
    devices = available_devices()
    if accelerator == "auto":
        return torch.device(devices[0])
    if accelerator == "gpu" and devices[0] != "cpu":
        return torch.device(devices[0])
    if accelerator not in devices:
        raise RuntimeError(
            f"Accelerator {accelerator!r} is selected, but this machine offers {', '.join(devices)}. "
            "Select one of these or 'auto'."
        )
    return torch.device(accelerator)


def predict(
    module: PtychoPINN_Lightning,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    report: ReportFraction | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """Patches of every group in ``container``, and the probe; see :func:`predict_patches`."""
    patches = predict_patches(module, container, execution, report=report, should_stop=should_stop)
    return Prediction(patches, module.counts_probe().detach().cpu().numpy())


def predict_patches(
    module: PtychoPINN_Lightning,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    report: ReportFraction | None = None,
    should_stop: ShouldStop | None = None,
) -> NDArray[np.complex64]:
    """Object patches (B, C, N, N) complex64 of every group in ``container``.

    Raises
    ------
    ModelFileError
        If the model was made for another N or gridsize than the container has.
    InterruptedError
        If ``should_stop`` answered True between two batches.
    """
    data = module.data_config
    require_fit(data, container)
    device = choose_device(execution.accelerator)
    module = module.to(device).eval()
    batch_size = execution.inference_batch_size or max(1, PATTERNS_PER_BATCH // container.gridsize**2)
    # a loader without a seed draws one from the random numbers that a training in progress uses
    loader = build_loader(GroupDataset(container, data.input_scale), batch_size, execution, seed=0)
    patches = np.empty((len(container), container.gridsize**2, data.N, data.N), np.complex64)
    done = 0
    dtype = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(execution.precision)
    mixed = torch.autocast(device.type, dtype, enabled=dtype is not None)
    with torch.inference_mode(), mixed:
        for batch in loader:
            if should_stop is not None and should_stop():
                raise InterruptedError("Inference was stopped.")
            batch = batch.to(device)
            result = module(batch["amplitude"], batch["offsets"])
            patches[done : done + len(result)] = result.cpu().numpy()
            done += len(result)
            if report is not None:
                report(done / len(container))
    return patches
