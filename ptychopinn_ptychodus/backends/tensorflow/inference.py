"""Applying a trained model."""

from __future__ import annotations

import contextlib

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ...config import ExecutionConfig
from ...data.grouping import PtychoDataContainer
from ..base import Prediction, ReportFraction, ShouldStop
from ..physics import require_fit
from ..recipe import PATTERNS_PER_BATCH
from .loaders import build_dataset
from .module import PtychoPINN_TensorFlow


def available_devices() -> list[str]:
    """Names of the devices usable on this machine, as ``accelerator`` has them, best first."""
    graphics = tf.config.list_physical_devices("GPU")
    for device in graphics:
        with contextlib.suppress(RuntimeError):  # in use already, and not by us
            # TensorFlow would otherwise take all memory of a device that others use too
            tf.config.experimental.set_memory_growth(device, True)
    return [*(["gpu"] if graphics else []), "cpu"]


def choose_device(accelerator: str) -> str:
    """TensorFlow's name of the device that the ``accelerator`` setting stands for.

    Raises
    ------
    RuntimeError
        If it is not there; the message lists those that are.
    """
    devices = available_devices()
    wanted = {"auto": devices[0], "cuda": "gpu"}.get(accelerator, accelerator)
    if wanted not in devices:
        raise RuntimeError(
            f"Accelerator {accelerator!r} is selected, but TensorFlow offers {', '.join(devices)} on this "
            "machine. Select one of these or 'auto'."
        )
    return f"/{wanted.upper()}:0"


def predict(
    model: PtychoPINN_TensorFlow,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    report: ReportFraction | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """Patches of every group in ``container``, and the probe; see :func:`predict_patches`."""
    patches = predict_patches(model, container, execution, report=report, should_stop=should_stop)
    return Prediction(patches, model.counts_probe().numpy())


def predict_patches(
    model: PtychoPINN_TensorFlow,
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
    data = model.data_config
    require_fit(data, container)
    batch_size = execution.inference_batch_size or max(1, PATTERNS_PER_BATCH // container.gridsize**2)
    dataset = build_dataset(container, data.input_scale, batch_size, execution)
    patches = np.empty((len(container), container.gridsize**2, data.N, data.N), np.complex64)
    done = 0
    with tf.device(choose_device(execution.accelerator)):
        apply = tf.function(model.patches, reduce_retracing=True)
        for batch in dataset:
            if should_stop is not None and should_stop():
                raise InterruptedError("Inference was stopped.")
            result = apply(batch["amplitude"], batch["offsets"]).numpy()
            patches[done : done + len(result)] = result
            done += len(result)
            if report is not None:
                report(done / len(container))
    return patches
