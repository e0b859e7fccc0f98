"""A worked example of an engine from outside: numpy alone, and all that an engine has to do.

It learns one number, the scale of the probe by which an empty object explains the patterns best. Applied to
a pattern, it takes one step of a PIE algorithm from an empty object with that probe: enough to see something.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychopinn_ptychodus.backends.base import (
    Engine,
    ModelDescription,
    ModelFileError,
    OnBatch,
    OnEpoch,
    OnProgress,
    Prediction,
    PreviewCallback,
    ShouldStop,
    TrainingResult,
)
from ptychopinn_ptychodus.backends.framework import one_line
from ptychopinn_ptychodus.backends.model_file import require_model_file
from ptychopinn_ptychodus.backends.physics import (
    amplitude_to_sqrt_counts,
    initial_physics,
    probe_factor,
    require_fit,
)
from ptychopinn_ptychodus.backends.reporter import StopRequested, TrainingReporter
from ptychopinn_ptychodus.config import (
    DataConfig,
    ExecutionConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
    to_dict,
)
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.files import replacing

VERSION = "1.0"
GROUPS_AT_ONCE = 32


class OneStepEngine(Engine):
    """One step from an empty object. It needs no framework, and leaves ``framework`` and ``needed`` out."""

    name = "one_step"
    title = "One step"
    model_suffix = ".one_step.npz"
    model_filter = "One-step models (*.one_step.npz)"
    install_hint = "pip install ./examples/engine"

    def accelerators(self) -> list[str]:
        return ["cpu"]

    # ------------------------------------------------------------------ model files: data, and no pickles

    def recognises(self, path: Path) -> bool:
        try:
            return bool(_about(path)["engine"] == self.name)
        except Exception:  # whatever a foreign or damaged file leads to
            return False

    def describe(self, path: Path) -> ModelDescription:
        return self._open(path)[0]

    def _open(self, path: Path) -> tuple[ModelDescription, NDArray[np.complex64]]:
        require_model_file(path)
        try:
            about = _about(path)
            if about["engine"] != self.name:
                raise ValueError("it is of another engine")
            with np.load(path, allow_pickle=False) as file:
                probe = file["probe"]
            # an unknown field of a configuration says by itself that the package should be upgraded
            data = from_dict(DataConfig, about["data"])
            if probe.shape != (data.probe_modes, data.N, data.N) or not np.isfinite(probe).all():
                raise ValueError("its probe is none")
            model = from_dict(ModelConfig, about["model"])
            description = ModelDescription(self.name, str(about["version"]), model, data, about["history"])
        except Exception as exc:
            raise ModelFileError(
                f'"{path}" is not a model of the engine {self.name!r}, or it is damaged ({one_line(exc)}). '
                "Choose another one, or train again."
            ) from exc
        return description, probe.astype(np.complex64)

    def _write(self, path: Path, description: ModelDescription, probe: NDArray[Any]) -> None:
        about = {
            "engine": description.engine,
            "version": description.version,
            "model": to_dict(description.model),
            "data": to_dict(description.data),
            "history": description.history,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, about=np.array(json.dumps(about)), probe=probe.astype(np.complex64))

    # ------------------------------------------------------------------ training

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
    ) -> TrainingResult:
        self._refuse("ModelConfig.model_type", config.model.model_type, "pinn")
        self._refuse("the probes of the scan", "several" if train.probes is not None else "one", "one")
        self._refuse_execution(execution)
        physics = initial_physics(train, config)
        planes = physics.probe_planes
        probe = math.exp(physics.log_scale) * (planes[..., 0] + 1j * planes[..., 1])
        history: dict[str, list[float]] = {"train_loss": [], "val_loss": []}
        reporter = TrainingReporter(
            on_batch=on_batch, on_epoch=on_epoch, should_stop=should_stop, preview=preview
        )

        def apply(container: PtychoDataContainer) -> Prediction:
            return _predict(probe, physics.data, container)

        reporter.start()
        try:
            for _ in range(config.nepochs):
                sums = np.zeros(3)
                for first in range(0, len(train), config.batch_size):
                    batch = slice(first, first + config.batch_size)
                    sums += _sums(probe, physics.data, train, batch)
                    reporter.batch(patterns=train.nn_indices[batch].size)
                history["train_loss"].append(_loss(sums))
                # half of the way to the probe that fits best, so that there is something to see in each epoch
                probe = probe * math.sqrt(sums[1] / sums[2])
                if validation is not None:
                    history["val_loss"].append(_loss(_sums(probe, physics.data, validation, slice(None))))
                reporter.epoch(history, config.nepochs, apply)
        except StopRequested:
            pass  # what was learnt so far is the model
        description = ModelDescription(self.name, VERSION, config.model, physics.data, history)
        self._write(model_path, description, probe)
        return TrainingResult(model_path, history, reporter.stopped)

    # ------------------------------------------------------------------ inference

    def predict(
        self,
        model_path: Path,
        container: PtychoDataContainer,
        execution: ExecutionConfig,
        *,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Prediction:
        self._refuse_execution(execution)
        description, probe = self._open(model_path)
        require_fit(description.data, container)
        return _predict(probe, description.data, container, on_progress, should_stop)

    # ------------------------------------------------------------------ what it cannot do

    def _refuse_execution(self, execution: ExecutionConfig) -> None:
        self._refuse("ExecutionConfig.accelerator", execution.accelerator, "auto", "cpu")
        self._refuse("ExecutionConfig.precision", execution.precision, "32-true")

    def _refuse(self, what: str, value: str, *allowed: str) -> None:
        """Four cases for the sake of the example; a real engine has one for every field."""
        if value not in allowed:
            raise ValueError(
                f"The engine {self.name!r} does not support {what} = {value!r}: use "
                f"{' or '.join(map(repr, allowed))}."
            )


def _about(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
    if not isinstance(about, dict):
        raise ValueError("it does not say what it is")
    return about


def _measured(
    data: DataConfig, container: PtychoDataContainer, groups: slice
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """√counts of groups, (b, C, N, N), as if exposed as the training was, and good pixels, (N, N)."""
    amplitude = container.normalised(groups, data.input_scale) * np.float32(amplitude_to_sqrt_counts(data))
    return np.moveaxis(amplitude, -1, 1), ~container.bad_pixels


def _far_field(probe: NDArray[Any]) -> NDArray[Any]:
    """(modes, N, N), zero frequency at (N/2, N/2)."""
    return np.fft.fftshift(np.fft.fft2(probe, norm="ortho"), axes=(-2, -1))


def _modelled(waves: NDArray[Any]) -> NDArray[Any]:
    """√λ, (N, N), and nowhere so near to zero that dividing by it would not be finite."""
    modulus = np.sqrt((np.abs(waves) ** 2).sum(0))
    return np.asarray(np.maximum(modulus, 1e-3 * modulus.max()))


def _sums(
    probe: NDArray[Any], data: DataConfig, container: PtychoDataContainer, groups: slice
) -> NDArray[np.float64]:
    """Σn, Σ√(n λ) and Σλ over the good pixels of some groups, λ being those of an empty object."""
    measured, good = _measured(data, container, groups)
    seen = measured[..., good].astype(np.float64)
    modelled = np.broadcast_to(_modelled(_far_field(probe))[good], seen.shape)
    return np.array([(seen**2).sum(), (seen * modelled).sum(), (modelled**2).sum()])


def _loss(sums: NDArray[np.float64]) -> float:
    """Σ(√n - √λ)² / Σn."""
    return float((sums[0] - 2 * sums[1] + sums[2]) / sums[0])


def _predict(
    probe: NDArray[Any],
    data: DataConfig,
    container: PtychoDataContainer,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    count, size = len(container), data.N
    waves = _far_field(probe)
    modelled, light = _modelled(waves), float((np.abs(probe) ** 2).sum(0).max())
    patches = np.empty((*container.nn_indices.shape, size, size), np.complex64)
    for first in range(0, count, GROUPS_AT_ONCE):
        if should_stop is not None and should_stop():
            raise InterruptedError("Inference was stopped.")
        part = slice(first, first + GROUPS_AT_ONCE)
        measured, good = _measured(data, container, part)
        ratio = np.where(good, measured / modelled, 1.0)[:, :, None]
        exit_waves = np.fft.ifft2(np.fft.ifftshift(ratio * waves, axes=(-2, -1)), norm="ortho")
        patches[part] = 1 + (np.conj(probe) * (exit_waves - probe)).sum(2) / light
        if on_progress is not None:
            on_progress(min(first + GROUPS_AT_ONCE, count) / count)
    return Prediction(patches, (probe * probe_factor(data, container)).astype(np.complex64))
