"""Applying a trained model to grouped data: the choice of a device, batches that fit it, and patches."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ...config import ExecutionConfig
from ...data import large_arrays
from ...data.container import PtychoDataContainer
from ..base import OnProgress, Prediction, ShouldStop
from ..batch_size import forwards, in_batches_that_fit
from ..devices import devices_each, fill, require_devices
from ..kept import kept_model
from ..physics import probe_factor, require_fit
from .bundle import open_model
from .loaders import build_dataset
from .module import PtychoPINN_TensorFlow
from .names import NAME

logger = logging.getLogger(__name__)

_ONLY = {
    "strategy": ("auto",),
    "pin_memory": (False,),
    "persistent_workers": (False,),
}
"""The fields of ``ExecutionConfig`` that this engine honours with these values only."""

_OF_INFERENCE = ("pin_memory", "persistent_workers")
"""Those of these fields that apply to inference."""


def require_supported(execution: ExecutionConfig, names: Iterable[str] = _ONLY) -> None:
    """Refuse an execution configuration that asks for what this engine cannot do.

    Parameters
    ----------
    execution
        The configuration of the run.
    names
        The fields that are looked at, by default all that this engine honours only in part.

    Raises
    ------
    ValueError
        If a field has a value that this engine does not support; the message names engine, field and value.
    """
    for name in names:
        allowed, value = _ONLY[name], getattr(execution, name)
        if value not in allowed:
            raise ValueError(
                f"ExecutionConfig.{name} = {value!r} is not supported by the engine "
                f"{NAME!r}: use {' or '.join(map(repr, allowed))}, or the engine 'pytorch'."
            )


def available_devices() -> list[str]:
    """Names of the devices usable on this machine, as the setting ``accelerator`` has them, best first.

    The last of them is always ``"cpu"``. TensorFlow is told to take a GPU's memory as it needs it, which is
    possible only before the GPU is first used.
    """
    graphics = tf.config.list_physical_devices("GPU")
    for device in graphics:
        if tf.config.experimental.get_memory_growth(device):
            continue
        try:
            # TensorFlow would otherwise take all memory of a device that other processes use too
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError as exc:
            logger.warning(
                "TensorFlow was in use before, and may hold all memory of %s: %s", device.name, exc
            )
    return [*(["gpu"] if graphics else []), "cpu"]


def kind_of(accelerator: str) -> str:
    """``"gpu"`` or ``"cpu"``, whichever the setting ``accelerator`` stands for.

    Raises
    ------
    RuntimeError
        If it is not there; the message lists what is.
    """
    devices = available_devices()
    wanted = {"auto": devices[0], "cuda": "gpu"}.get(accelerator, accelerator)
    if wanted not in devices:
        raise RuntimeError(
            f"Accelerator {accelerator!r} is selected, but TensorFlow offers {', '.join(devices)} on this "
            "machine. Select one of these or 'auto'."
        )
    return wanted


def on_device(accelerator: str) -> AbstractContextManager[None]:
    """The device that the setting ``accelerator`` stands for, as a context.

    What TensorFlow makes or runs within the context is made or run on that device. ``"auto"`` stands for the
    best one that is there, ``"cuda"`` for the GPU.

    Raises
    ------
    RuntimeError
        If the device is not there; the message lists those that are.
    """
    device: AbstractContextManager[None] = tf.device(f"/{kind_of(accelerator).upper()}:0")
    return device


def choose_devices(execution: ExecutionConfig) -> list[str]:
    """Names of the devices that a model is applied on, of which the CPU may be several: they share its cores.

    Raises
    ------
    RuntimeError
        As :func:`on_device`.
    ValueError
        If there are fewer of them than ``execution`` asks for.
    """
    kind, count = kind_of(execution.accelerator), devices_each(execution)
    if kind == "cpu":
        return ["/CPU:0"] * count
    require_devices(count, len(tf.config.list_physical_devices("GPU")), "GPUs")
    return [f"/GPU:{number}" for number in range(count)]


def predict_with(
    model_path: Path,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """Open the model at ``model_path`` and apply it, see :func:`predict`; for errors, :func:`.open_model`."""
    # the model is opened on the device as well, because its weights belong where they are used
    with on_device(execution.accelerator):
        model = kept_model.opened(
            model_path,
            (NAME, execution),
            lambda: open_model(model_path, execution, container),
            lambda model: not model.data_config.any_probe,
        )
        return predict(model, container, execution, on_progress=on_progress, should_stop=should_stop)


def predict(
    model: PtychoPINN_TensorFlow,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """Give the patches of every group in ``container``, and the probe that goes with them.

    The patches are those of :func:`predict_patches`, which says what the parameters are and what is raised.
    The probe is (modes, N, N) complex64 in the scale of counts: the sum of ``Σ_m |probe_m|²`` over its pixels
    is the number of photons of a whole pattern. It is as bright as the beam was for this container, which
    need not be that of the training data.
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
    """Compute the object patches of every group in ``container``.

    Parameters
    ----------
    model
        The trained model. It normalises the patterns as those that it was trained on.
    container
        Grouped data: B groups of C patterns, N × N pixels.
    execution
        The devices (``accelerator``, ``devices``), and how many groups are a batch
        (``inference_batch_size``; None finds out how many fit). Each of several devices has other batches,
        and the patches are those of one.
    on_progress
        Called after every batch with the part of the groups that is done, 0 to 1.
    should_stop
        Asked before every batch.

    Returns
    -------
    ndarray
        (B, C, N, N) complex64: the transmission (no unit) around the position of each pattern, in pixels of
        the object.

    Raises
    ------
    ModelFileError
        If the model was made for another N or gridsize than the container has.
    InterruptedError
        If ``should_stop`` answered True.
    ValueError
        If this engine does not support what ``execution`` asks for, or there are fewer devices.
    RuntimeError
        If the device is not there, or has too little memory; if one of several fails, it is named.
    NoRoomError
        If there is no room for the patches, see :func:`.large_arrays.empty`.
    """
    require_supported(execution, _OF_INFERENCE)
    data = model.data_config
    require_fit(data, container)
    shape = (len(container), container.gridsize**2, data.N, data.N)
    patches = large_arrays.empty(shape, np.complex64, "The network's patches")
    tell = forwards(on_progress)
    devices = choose_devices(execution)
    models = [model]
    for device in devices[1:]:
        with tf.device(device):
            models.append(model if device == devices[0] else type(model).from_state(model.state()))
    graphs = [each.patches_graph for each in models]  # here, since each is made once

    def apply(batch_size: int) -> None:
        def results(number: int, chosen: NDArray[np.int64]) -> Generator[NDArray[np.complex64]]:
            with tf.device(devices[number]):
                for batch in build_dataset(container, data.input_scale, batch_size, execution, chosen=chosen):
                    yield graphs[number](batch["amplitude"], batch["offsets"]).numpy()

        fill(
            patches,
            batch_size,
            [partial(results, number) for number in range(len(devices))],
            devices,
            tell=tell,
            should_stop=should_stop,
            out_of_memory=tf.errors.ResourceExhaustedError,
        )

    kind = "cpu" if devices[0] == "/CPU:0" else "gpu"
    in_batches_that_fit(apply, container, execution, kind, tf.errors.ResourceExhaustedError)
    return patches
