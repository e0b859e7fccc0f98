"""Scans so dim that amplitudes are no measure, whose likelihood ``"auto"`` follows from the beginning.

Where a pixel counts a photon now and then, the mean of √n is far below √λ, and the fit by amplitudes goes
there: steps towards it lead away from the object before they lead to it. Amplitudes forgive what the model
does not know, such as scattered light; but where noise is nearly all that an empty object leaves of the
likelihood, there is little to forgive.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .config import RefinementConfig
from .iterate import Iterate
from .measured import Measured
from .model import ScanModel
from .noise import least_error, left_by_photons

logger = logging.getLogger(__name__)

_LEFT_BY_AMPLITUDES = 0.95
"""Of the patterns' light, if each pixel is fitted by itself: with less, amplitudes are no measure."""
NEAR_NOISE = 1.25
"""Error by the likelihood, over what photons leave, up to which there is little to forgive."""
_OF_A_PIXEL, _LEAST_BATCHES = 0.4, 4
"""Photons of a batch to a pixel of the object, at least, and batches that there are whatever they have."""
ROUNDS = 10
"""In which the object's spectrum is learnt from nothing, at most; three or four do mostly."""


def with_metric_chosen(config: RefinementConfig, measured: Measured, start: Iterate) -> RefinementConfig:
    """The settings with ``"poisson"`` in place of ``"auto"``, where the likelihood is to be followed.

    Parameters as :func:`is_nearly_noise` takes them.
    """
    if config.metric == "auto" and is_nearly_noise(measured, start):
        return replace(config, metric="poisson")
    return config


def is_nearly_noise(measured: Measured, start: Iterate) -> bool:
    """Whether patterns are dim, and noise is nearly all that a start leaves of them.

    Parameters
    ----------
    measured
        The scan; without sound patterns, nothing is known.
    start
        Its probe may have any scale.
    """
    sound, mean, per_photon = measured.sound, measured.mean, measured.per_photon
    if not (len(sound) and mean.any() and is_dim(mean / per_photon)):
        return False
    model = ScanModel(measured.raw, measured.arrays, "poisson")
    agreement = model.compare(start, sound)
    counts, modelled = (float(values.sum()) for values in (agreement.counts, agreement.modelled))
    if not (math.isfinite(modelled) and modelled > 0):
        return False  # which is told of where the start is put in scale
    in_scale = replace(start, probe=start.probe * math.sqrt(counts / modelled))
    error = float(model.compare(in_scale, sound).errors.mean())
    return error <= NEAR_NOISE * left_by_photons(mean, per_photon, "poisson")


def is_dim(mean: NDArray[np.float64]) -> bool:
    """Whether amplitudes are no measure of patterns whose mean this is, in photons, not all zero."""
    return left_by_amplitudes(mean) <= _LEFT_BY_AMPLITUDES


def left_by_amplitudes(mean: NDArray[np.float64]) -> float:
    """What part of their light patterns keep where each pixel is fitted by its amplitude, ``(E √n)²``.

    ``mean`` is any shape, in photons, not all zero.
    """
    return 1.0 - float(least_error(mean).sum() / mean.sum())


def most_batches(photons: float, canvas: Array) -> int:
    """In how many batches a scan can be dealt out, so that steps do not follow the noise of each.

    ``photons`` are those of all patterns, ``canvas`` is (H, W).
    """
    return max(int(photons / (_OF_A_PIXEL * canvas.shape[0] * canvas.shape[1])), _LEAST_BATCHES)


def tell_what_is_seen(mean: NDArray[np.float64], finest: float) -> None:
    """Warn of what an object from few counts shows, and what it does not.

    Parameters
    ----------
    mean
        (N, N) mean pattern in photons.
    finest
        Frequency up to which something of the object stands out of the noise, cycles per pixel; 0: none does.
    """
    if not is_dim(mean):
        return
    photons, lit = float(mean.sum()), float((mean**2).sum() / mean.sum())
    if finest > 0:
        logger.warning(
            "The patterns have %.3g photons each, %.2g in a bright pixel. Whatever is finer than %.2g pixels "
            "in the object is lost in their noise, and what is coarser is uncertain: count longer, or take "
            "more patterns, before anything is read from it.",
            photons,
            lit,
            0.5 / finest,
        )
    else:
        logger.warning(
            "The patterns have %.3g photons each, %.2g in a bright pixel, and nothing of the object stands "
            "out of their noise: what is shown is NOT A RECONSTRUCTION. Count longer, or take more patterns.",
            photons,
            lit,
        )
