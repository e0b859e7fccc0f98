"""What a fresh model learns from its training data before the first step: statistics, probe and scale."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig, TrainingConfig
from ..data.container import PtychoDataContainer
from ..data.examination import Action, Finding
from ..data.probe import with_modes
from .base import ModelFileError

logger = logging.getLogger(__name__)

_NOTEWORTHY = 1.25
"""A scan this many times as bright, or as dim, as the training data is worth a finding."""

_HARD_FOR_CNN = 128
"""N from which on 'cnn' did not learn from groups in the time that it learns from single patterns."""

NEEDS_OBJECT = (
    "realspace_mae_weight or realspace_aligned_weight above 0 needs a known object: add objectGuess to the "
    "training data, or set both to 0."
)
"""What either engine says where the objective compares with an object and the data hold none."""


@dataclass(frozen=True)
class InitialPhysics:
    """Statistics that stay as they are, and starting values of the physical parameters.

    Attributes
    ----------
    data
        Statistics of the training data.
    probe_planes
        (modes, N, N, 2) float32: real and imaginary part of the probe, divided by ``probe_scale`` times its
        mean modulus.
    log_scale
        α, such that ``e^{2α} Σ|P|²`` is the mean number of photons per pattern. The probe's own scale may be
        any.
    good_pixels
        (N, N) float32, 0 for bad pixels and 1 for all others.
    """

    data: DataConfig
    probe_planes: NDArray[np.float32]
    log_scale: float
    good_pixels: NDArray[np.float32]


def initial_physics(container: PtychoDataContainer, config: TrainingConfig) -> InitialPhysics:
    """Statistics and starting values for a model of ``container``.

    Raises
    ------
    ValueError
        If data and configuration do not fit each other.
    """
    probe = with_modes(container.probe, config.probe_modes or len(container.probe))
    modes, size, _ = probe.shape
    model = config.model
    if (size, container.gridsize) != (model.N, model.gridsize):
        raise ValueError(
            f"The data have {size}×{size} patterns in groups of gridsize {container.gridsize}, but "
            f"ModelConfig says N = {model.N}, gridsize = {model.gridsize}: make them agree."
        )
    # a network that has seen what the objects were, as in pretraining, knows more than the frames say
    if model.is_unrolled and model.channels == 1 and not config.needs_object:
        logger.warning(
            "Single frames barely determine the large-scale phase, and patterns alone do not teach "
            "%r what is missing. Use gridsize 2 or more where positions allow, or a network that was "
            "pretrained for single frames (ptychopinn-ptychodus pretrain --gridsize 1).",
            model.architecture,
        )
    if model.architecture == "cnn" and model.channels > 1 and model.object_big and size >= _HARD_FOR_CNN:
        logger.warning(
            "'cnn' with gridsize = %d at N = %d hardly learns: after short trainings its object was not to "
            "be recognised. Use gridsize 1, 'unrolled', or very many epochs.",
            model.gridsize,
            size,
        )
    if container.probes is not None:
        _require_free_of_probe(config)
    photons = container.photons_per_pattern
    data = DataConfig(
        N=size,
        gridsize=container.gridsize,
        probe_modes=modes,
        input_scale=container.input_scale,
        photons_per_pattern=config.nphotons if photons is None else photons,
        any_probe=container.probes is not None,
    )
    modulus = np.sqrt((np.abs(probe) ** 2).sum(0))
    scaled = probe / (model.probe_scale * modulus.mean())
    planes = np.stack((scaled.real, scaled.imag), -1).astype(np.float32)
    mask = central_disk(size) if model.probe_mask else np.float32(1)
    power = float((planes.astype(np.float64) ** 2 * np.reshape(mask, (*np.shape(mask), 1))).sum())
    return InitialPhysics(
        data=data,
        probe_planes=planes,
        log_scale=0.5 * math.log(data.photons_per_pattern / power),
        good_pixels=(~container.bad_pixels).astype(np.float32),
    )


def _require_free_of_probe(config: TrainingConfig) -> None:
    """Raise ``ValueError`` unless ``config`` allows a training on patterns of several probes."""
    if not config.model.is_unrolled:
        raise ValueError(
            f"ModelConfig.architecture = {config.model.architecture!r} cannot learn from "
            "patterns of several probes: use 'unrolled' or 'unrolled_fourier'."
        )
    for name in ("probe_trainable", "intensity_scale_trainable"):
        if getattr(config, name):
            raise ValueError(f"TrainingConfig.{name} = True needs data of one probe: set it to False.")


def central_disk(size: int) -> NDArray[np.float32]:
    """(N, N): 1 within N/4 pixels of the patch's centre, else 0; by this ``probe_mask`` limits the probe."""
    axis = np.arange(size) - (size - 1) / 2
    return (axis[:, None] ** 2 + axis**2 <= (size / 4) ** 2).astype(np.float32)


def amplitude_to_sqrt_counts(data: DataConfig) -> float:
    """Factor from normalised amplitude to the square root of counts."""
    return float(2.0 / data.N * data.photons_per_pattern**0.5)


def require_fit(data: DataConfig, container: PtychoDataContainer) -> None:
    """Raise :class:`.ModelFileError` unless a model of ``data`` can be applied to ``container``."""
    if (container.N, container.gridsize) != (data.N, data.gridsize):
        raise ModelFileError(
            f"The model was trained for N = {data.N}, gridsize = {data.gridsize}, but the data have "
            f"N = {container.N}, gridsize = {container.gridsize}. Load a model for these data or train one."
        )


def require_alike(train: PtychoDataContainer, test: PtychoDataContainer) -> None:
    """Raise ``ValueError`` unless a model of the training data can be applied to the test data."""
    if (test.N, test.gridsize) != (train.N, train.gridsize):
        raise ValueError(
            f"The test data have N = {test.N}, gridsize = {test.gridsize}, the training data "
            f"N = {train.N}, gridsize = {train.gridsize}: make them agree."
        )


def probe_factor(data: DataConfig, container: PtychoDataContainer) -> float:
    """Factor by which the probe in counts is larger for ``container`` than for the training data of a model.

    ``data`` are the model's statistics. They are not changed for a scan of another exposure: its patterns are
    divided by how much brighter they are (:meth:`.PtychoDataContainer.normalised`), and the probe is
    multiplied by the same here. Nothing else has to be done for such a scan.
    """
    if container.exposures is None or container.photons_per_pattern is None:
        return 1.0
    return math.sqrt(container.photons_per_pattern / data.photons_per_pattern)


def other_exposure(data: DataConfig, container: PtychoDataContainer) -> Finding | None:
    """A finding if a scan is much brighter or dimmer than the training data of a model; else None."""
    if data.any_probe or container.exposures is None or container.photons_per_pattern is None:
        return None
    brightness = float(container.exposures.mean()) * (2.0 * data.input_scale / container.N) ** 2
    if 1 / _NOTEWORTHY < brightness < _NOTEWORTHY:
        return None
    photons = container.photons_per_pattern
    return Finding(
        code="other-exposure",
        subject="scale",
        action=Action.NOTED,
        seen=f"The scan has {photons:.3g} photons per pattern, {brightness:.3g} times as many as what the "
        "model was trained on.",
        done="The patterns are divided by this before the model sees them, and the probe is as bright as the "
        "scan's beam: the object does not depend on it.",
        values={"photons_per_pattern": photons, "brightness": brightness},
    )
