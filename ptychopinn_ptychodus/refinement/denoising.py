"""Dim scans: an object that is held by itself without its noise, as far as patterns that were held out agree.

The object's spectrum (:mod:`.prior`) knows nothing of edges and of flat regions. A denoiser does: total
variation (Rudin, Osher & Fatemi, Physica D 60, 259, 1992), by Chambolle's algorithm (J. Math. Imaging Vis.
20, 89, 2004), as strong as the noise is by what spectrum and patterns leave. What it makes of the most
probable object takes the place of the object's mean, and the object is solved for once more by all patterns
(plug-and-play: Venkatakrishnan, Bouman & Wohlberg, Proc. GlobalSIP 2013). The patterns have the last word:
what is taken off has to look like their noise everywhere, they take part once more, and it is done at all,
and as strongly, as foretells patterns best that took no part.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .arrays import Array, Arrays
from .iterate import Iterate
from .model import ScanModel
from .object_steps import Around, Doubt, ObjectSteps

logger = logging.getLogger(__name__)

LEAST_DOUBT = 0.02
"""Standard deviation of either part of an object of mean 1, from which on a prior is called for."""
FREEDOM = 0.06
"""How far the object may go from what a denoiser makes of it: a part of the variance left without one."""
_FARTHEST = 2.0
"""Standard deviations that a denoiser may change a pixel by: what stands out further is no noise."""
STRENGTHS = (0.5, 1.0)
"""Of the total variation, in standard deviations, to choose from."""
_AROUND = 3.0
"""Pixels, standard deviation of the surroundings in which what is taken off may be no more than the noise."""
_HELD_OUT = 8
"""One pattern of so many is held out, for the comparison of objects with and without a prior."""
SURE = 3.0
"""Standard deviations of a gain in the likelihood of patterns held out, up to which it may be chance."""
_LEAST_GAIN = 1e-4
"""Of a few steps, a pixel. The object begins with what patterns held out have told, and has to forget it."""
_PASSES = 2 + len(STRENGTHS)  # solutions, at most, for how much is done


@dataclass(frozen=True)
class Scan:
    """What the object is solved for with.

    Attributes
    ----------
    model, arrays
        The scan, by its likelihood, and the library to work with.
    weights
        (M,) what each pattern counts for.
    per_photon
        Counts of a photon.
    order
        (M,) the patterns as a path that leads from neighbour to neighbour.
    """

    model: ScanModel
    arrays: Arrays
    weights: NDArray[np.float64]
    per_photon: float
    order: NDArray[np.int64]


def denoise(
    scan: Scan,
    object_steps: ObjectSteps,
    iterate: Iterate,
    steps: int,
    on_progress: Callable[[float], None],
    should_stop: Callable[[], bool] | None,
) -> tuple[bool, bool]:
    """Put an object with less noise in the place of the iterate's, where the dose calls for it.

    Parameters
    ----------
    scan
        The scan.
    object_steps
        They have just solved for the object.
    iterate
        The most probable object. It is changed if patterns held out call for that, and left otherwise.
    steps
        Of a solution, at most.
    on_progress
        Called with the part of the work that is done.
    should_stop
        Asked every few patterns.

    Returns
    -------
    stopped, taken
        Whether it was stopped, in which case the object stays, and whether the object was changed.
    """
    known = object_steps.known(scan.model, iterate, scan.per_photon)
    doubt = object_steps.doubt(known)
    if doubt.spread.max() < LEAST_DOUBT:
        return False, False
    done = 0

    def solved(weights: NDArray[np.float64], around: Around | None) -> Iterate | None:
        nonlocal done
        start = scan.arrays.copy(iterate.canvas) if around is None else scan.arrays.put(around.centre)
        tried = replace(iterate, canvas=start)
        before = done
        stopped = object_steps.solve(
            scan.model,
            tried,
            weights,
            scan.per_photon,
            steps,
            lambda part: on_progress((before + part) / _PASSES),
            should_stop,
            known,
            around,
            _LEAST_GAIN,
        )
        done += 1
        return None if stopped else tried

    def around(canvas: Array, strength: float) -> Around:
        return Around(without_noise(scan.arrays.get(canvas), doubt, strength), FREEDOM)

    held = np.sort(scan.order[_HELD_OUT // 2 :: _HELD_OUT])
    weights = scan.weights.copy()
    weights[held] = 0.0
    free = solved(weights, None)
    if free is None:
        return True, False
    errors = scan.model.compare(free, held).errors
    best, most = 0.0, -math.inf
    for strength in STRENGTHS:
        denoised = solved(weights, around(free.canvas, strength))
        if denoised is None:
            return True, False
        gain = scan.weights[held] * (errors - scan.model.compare(denoised, held).errors)
        chance = float(gain.std()) * math.sqrt(len(gain))
        logger.debug(
            "Held out, by a prior of %g: %.4g ± %.2g of %.4g.", strength, gain.sum(), chance, errors.sum()
        )
        if gain.sum() > max(most, SURE * chance):
            best, most = strength, float(gain.sum())
    if not best:
        logger.debug("Without its noise, the object does not foretell patterns better: it is left as it is.")
        return False, False
    found = solved(scan.weights, around(iterate.canvas, best))
    if found is None:
        return True, False
    iterate.canvas = found.canvas
    return False, True


def without_noise(
    canvas: NDArray[np.complexfloating], doubt: Doubt, strength: float
) -> NDArray[np.complex64]:
    """An object by total variation, real and imaginary part each, its mean being of phase 0.

    Parameters
    ----------
    canvas
        (H, W), the object.
    doubt
        How far it may be wrong. No pixel goes farther than twice that, and where more than that would be
        taken off in a pixel's surroundings, root mean square, it is no noise, and less of it is.
    strength
        Of the total variation, in standard deviations.

    Returns
    -------
    ndarray
        As ``canvas``.
    """
    # here: it imports scipy.stats, which takes a worker a quarter of its start
    from skimage.restoration import denoise_tv_chambolle

    rest = canvas / doubt.mean
    parts = np.stack((rest.real, rest.imag))
    found = np.stack(
        [
            denoise_tv_chambolle(part, weight=strength * float(spread))
            for part, spread in zip(parts, doubt.spread, strict=True)
        ]
    )
    change = found - parts
    noise = doubt.each.astype(np.float64) ** 2
    around = ndimage.gaussian_filter(change**2, (0.0, _AROUND, _AROUND))
    change *= np.minimum(1.0, noise / np.maximum(around, np.finfo(np.float32).tiny))
    farthest = _FARTHEST * doubt.each
    real, imaginary = parts + np.clip(change, -farthest, farthest)
    return np.asarray((real + 1j * imaginary) * doubt.mean, np.complex64)
