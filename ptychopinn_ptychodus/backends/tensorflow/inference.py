"""Applying a trained model."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ...config import ExecutionConfig
from ...data.grouping import PtychoDataContainer
from ..base import OnProgress, Prediction, ShouldStop
from ..batch_size import forwards, in_batches_that_fit
from ..physics import probe_factor, require_fit
from .bundle import open_model
from .loaders import build_dataset
from .module import PtychoPINN_TensorFlow
from .names import NAME

logger = logging.getLogger(__name__)

_ONLY = {
    "devices": (1,),
    "num_nodes": (1,),
    "strategy": ("auto",),
    "pin_memory": (False,),
    "persistent_workers": (False,),
}
"""Fields of ``ExecutionConfig`` that this engine honours with these values only."""

_OF_INFERENCE = ("pin_memory", "persistent_workers")
"""Those of them that apply to inference."""


def require_supported(execution: ExecutionConfig, names: Iterable[str] = _ONLY) -> None:
    """Raise ``ValueError`` for a run-time knob, one of ``names``, that this engine has not."""
    for name in names:
        allowed, value = _ONLY[name], getattr(execution, name)
        if value not in allowed:
            raise ValueError(
                f"ExecutionConfig.{name} = {value!r} is not supported by the engine "
                f"{NAME!r}: use {' or '.join(map(repr, allowed))}, or the engine 'pytorch'."
            )


def available_devices() -> list[str]:
    """Names of the devices usable on this machine, as ``accelerator`` has them, best first."""
    graphics = tf.config.list_physical_devices("GPU")
    for device in graphics:
        if tf.config.experimental.get_memory_growth(device):
            continue
        try:
            # TensorFlow would otherwise take all memory of a device that others use too
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError as exc:
            logger.warning(
                "TensorFlow was in use before, and may hold all memory of %s: %s", device.name, exc
            )
    return [*(["gpu"] if graphics else []), "cpu"]


def on_device(accelerator: str) -> AbstractContextManager[None]:
    """A context for what is to be made, and run, on the device that the ``accelerator`` setting stands for.

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
    device: AbstractContextManager[None] = tf.device(f"/{wanted.upper()}:0")
    return device


def predict_with(
    model_path: Path,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """As :func:`predict`, of the model at ``model_path``; see :func:`.open_model` for errors."""
    # the weights, too, belong where they are used
    with on_device(execution.accelerator):
        model = open_model(model_path, execution, container)
        return predict(model, container, execution, on_progress=on_progress, should_stop=should_stop)


def predict(
    model: PtychoPINN_TensorFlow,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """Patches of every group in ``container``, and the probe; see :func:`predict_patches`.

    The probe is as bright as the beam was for this container, which need not be that of the training data.
    """
    patches = predict_patches(model, container, execution, on_progress=on_progress, should_stop=should_stop)
    factor = np.float32(probe_factor(model.data_config, container))
    return Prediction(patches, model.counts_probe().numpy() * factor)


def predict_patches(
    model: PtychoPINN_TensorFlow,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> NDArray[np.complex64]:
    """Object patches (B, C, N, N) complex64 of every group in ``container``.

    Raises
    ------
    ModelFileError
        If the model was made for another N or gridsize than the container has.
    InterruptedError
        If ``should_stop`` answered True between two batches.
    ValueError
        If this engine lacks what ``execution`` asks.
    RuntimeError
        If the device has too little memory.
    """
    require_supported(execution, _OF_INFERENCE)
    data = model.data_config
    require_fit(data, container)
    patches = np.empty((len(container), container.gridsize**2, data.N, data.N), np.complex64)

    tell = forwards(on_progress)

    def apply(batch_size: int) -> None:
        done = 0
        for batch in build_dataset(container, data.input_scale, batch_size, execution):
            if should_stop is not None and should_stop():
                raise InterruptedError("Inference was stopped.")
            result = model.patches_graph(batch["amplitude"], batch["offsets"]).numpy()
            patches[done : done + len(result)] = result
            done += len(result)
            tell(done / len(container))

    with on_device(execution.accelerator):
        kind = "cpu" if execution.accelerator == "cpu" or available_devices()[0] == "cpu" else "gpu"
        in_batches_that_fit(apply, container, execution, kind, tf.errors.ResourceExhaustedError)
    return patches
