"""Map of confidence and resolution of a result, by what the halves of its scan make of its object."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data import large_arrays
from ..data.confidence import Confidence
from ..data.estimate import Estimate
from ..data.examination.findings import Action, Finding
from ..data.metrics import RingCorrelation, fourier_ring_correlation
from ..data.raw import RawData
from ..refinement.arrays import Arrays, arrays_on
from ..refinement.iterate import Light
from ..refinement.report import Refined
from .halves import DETAIL, HALVES, LEAST_PATTERNS, Halves, refined_by_halves

CODE = "confidence"

_LIT = 0.3
"""Of the usual illumination, from which on a pixel is lit, as :func:`.metrics.illumination_mask` has it."""
_HARDLY = 0.02  # of the usual illumination of both halves: with less, a half has not seen a pixel
_BRIGHT = 0.05  # of the strongest illumination: what is usual is the median of such pixels
_NEAR = 1.5
"""Pixels, standard deviation: squares of departures are averaged so, since one pixel has but one of them."""
_AROUND = 6.0  # likewise, of what halves disagree by, over the light
_OF_NOISE = 2.0  # times the spread that the departure of a result without any fault may be
_ROUNDS, _FLAT = 10, 0.03  # of a fit by distances, and part of the usual one that is no distance
_PIXELS = 1 << 20  # of objects, that such a fit looks at
_LEAST_EDGE, _LARGEST_EDGE = 16, 2048  # pixels that both halves light, for rings
MUCH = 0.25
"""Part of the lit object that may be doubtful without a warning."""


def confidence_in(
    raw: RawData,
    found: Estimate,
    refined: Refined | None = None,
    *,
    metric: str = "amplitude",
    device: str | Arrays = "auto",
    on_progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    detail: float = DETAIL,
) -> Confidence | None:
    """Map of confidence and resolution of a result, see :mod:`.halves`.

    Parameters
    ----------
    raw
        The scan.
    found
        Its result; the scale of its probe is fitted.
    refined
        What a refinement said of it, if it came of one: weights of the patterns, light, and how the probe
        varies.
    metric
        ``"amplitude"`` or ``"poisson"``: what the halves go by, where ``refined`` does not say.
    device
        As :func:`~ptychopinn_ptychodus.refinement.solver.refine` takes it.
    on_progress
        Called with the part of the work that is done, 0 to 1, after every batch.
    should_stop
        Asked before every batch.
    detail
        See :data:`.halves.DETAIL`.

    Returns
    -------
    Confidence or None
        None if it was asked to stop.

    Raises
    ------
    ValueError
        If the scan has fewer than :data:`.halves.LEAST_PATTERNS` patterns, or the result puts no light on
        the detector.
    """
    if len(raw) < LEAST_PATTERNS:
        raise ValueError(
            f"The scan has {len(raw)} patterns: {LEAST_PATTERNS} or more can be halved to compare what each "
            "half makes of the object."
        )
    with arrays_on(device) as arrays:
        halves = refined_by_halves(
            raw,
            found,
            metric=metric if refined is None else refined.metric,
            weights=np.ones(len(raw)) if refined is None else refined.weights,
            light=Light() if refined is None else refined.light,
            variation=None if refined is None else refined.variation,
            arrays=arrays,
            on_progress=on_progress or (lambda fraction: None),
            should_stop=should_stop or (lambda: False),
            detail=detail,
        )
    return None if halves is None else confidence_by(halves, found.object)


def confidence_by(halves: Halves, object_: NDArray[np.complexfloating]) -> Confidence:
    """What the halves say of an object (H, W)."""
    light = halves.light[0] + halves.light[1]
    usual = float(np.median(light[light > _BRIGHT * light.max()]))
    lit = light > _LIT * usual
    least = _HARDLY * usual
    both = lit & (halves.light[0] > least) & (halves.light[1] > least)
    values = np.asarray(object_, np.complex64)
    contrast = float(np.std(values[lit]))
    first, second = (_in_scale(values, half, light, both) for half in halves.objects)
    rings = _rings(first, second, both)  # before the rest is there: they take much as well
    # objects may be in files, of which a part at a time is in memory
    noise, away = np.empty_like(light), np.empty_like(light)
    for rows in large_arrays.blocks(values):
        one, other = first[rows], second[rows]
        noise[rows] = 0.25 * _squared(one - other)
        away[rows] = _squared(values[rows] - 0.5 * (one + other))
    noise[~both] = 0.0
    away[~both] = 0.0
    # how noisy a neighbourhood is needs many pixels; within it, noise goes with the light
    noise *= light
    spread = _mean_around(noise, both, _AROUND)
    del noise
    spread /= np.maximum(light, least)
    departure = np.maximum(_mean_around(away, both, _NEAR) - _OF_NOISE * spread, 0.0)
    del away, light
    # the object was found from both, and by what objects are like: noise is no more than they let through
    spread *= contrast**2 / np.maximum(contrast**2 + spread, np.finfo(np.float32).tiny)
    # what one half alone has seen is not confirmed by anything
    departure[~both] = contrast**2
    for squares in (spread, departure):
        squares[~lit] = np.nan
    return Confidence(
        np.asarray(np.sqrt(spread), np.float32),
        np.asarray(np.sqrt(departure), np.float32),
        contrast,
        rings,
    )


def _rings(
    first: NDArray[np.complexfloating], second: NDArray[np.complexfloating], both: NDArray[np.bool_]
) -> RingCorrelation | None:
    """Rings between the halves where both are lit, in the middle of what is very large."""
    rows, columns = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    if min(len(rows), len(columns)) < _LEAST_EDGE:
        return None

    def middle(lit: NDArray[np.int64]) -> slice:
        low = max(int(lit[0]), int(lit[0] + lit[-1] + 1 - _LARGEST_EDGE) // 2)
        return slice(low, min(int(lit[-1]) + 1, low + _LARGEST_EDGE))

    part = (middle(rows), middle(columns))
    return fourier_ring_correlation(first[part], second[part], both[part], align_first=False)


def _in_scale(
    object_: NDArray[np.complex64],
    other: NDArray[np.complex64],
    light: NDArray[np.float32],
    both: NDArray[np.bool_],
) -> NDArray[np.complex64]:
    """Another object times the factor by which it is nearest: no pattern determines its phase.

    Its amplitude is determined by the probe's, which was fitted to the object, inventions included. The sum
    of distances is made least, not that of squares: what most pixels have in common decides. Of a large
    object, evenly spread ones tell as much as all of them.
    """
    every = math.ceil(math.sqrt(other.size / _PIXELS))
    seen, values = (np.array(whole[::every, ::every]) for whole in (other, object_))
    factor = np.complex64(_factor(values, seen, light[::every, ::every] * both[::every, ::every]))
    scaled: NDArray[np.complex64] = large_arrays.empty(other.shape, np.complex64, HALVES, together=2)
    for rows in large_arrays.blocks(other):
        scaled[rows] = other[rows] * factor
    return scaled


def _factor(
    object_: NDArray[np.complex64], other: NDArray[np.complex64], weight: NDArray[np.floating]
) -> complex:
    power, product = _squared(other), object_ * np.conj(other)
    factor, near = 1.0 + 0.0j, weight
    for _ in range(_ROUNDS):
        total = float((near * power).sum())
        if not total > 0:
            return 1.0 + 0.0j
        factor = complex((near * product).sum()) / total
        distance = np.sqrt(_squared(np.asarray(other * np.complex64(factor) - object_, np.complex64)))
        usual = float((weight * distance).sum() / max(float(weight.sum()), 1e-30))
        near = weight / np.maximum(distance, max(_FLAT * usual, 1e-30))
    return factor


def _squared(values: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.asarray(values.real**2 + values.imag**2, np.float32)


def _mean_around(values: NDArray[np.floating], where: NDArray[np.bool_], width: float) -> NDArray[np.float32]:
    """Mean of the values ``where`` around each pixel, by a Gaussian of that standard deviation."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), width)
    total = ndimage.gaussian_filter(np.where(where, values, np.float32(0.0)).astype(np.float32), width)
    return np.asarray(total / np.maximum(weight, np.float32(1e-6)), np.float32)


def confidence_finding(confidence: Confidence, pixel_m: float | None = None) -> Finding:
    """What is said of a confidence: one sentence, and a warning where a large part is doubtful.

    ``pixel_m`` is the edge of the object's pixels in metres; None: lengths are in pixels.
    """
    half = confidence.half_period()
    if confidence.rings is None:
        resolution = "the resolution between halves of the scan is not known"
    elif half is None:
        resolution = "halves of the scan agree down to the pixel"
    else:
        of_length = "" if pixel_m is None else f", {1e9 * half * pixel_m:.3g} nm"
        resolution = f"halves of the scan agree down to a half period of {half:.3g} pixels{of_length}"
    much = confidence.doubtful > MUCH
    seen = (
        f"{resolution[0].upper()}{resolution[1:]}, the mean confidence is {confidence.mean:.2f}, and "
        f"{confidence.doubtful:.0%} of the lit object is doubtful."
    )
    done = "The map of confidence shows where."
    if much:
        done += (
            " What is seen there is noise, or nothing that the patterns ask for: scan with more overlap or "
            "more light, or refine for longer."
        )
    return Finding(
        CODE,
        "confidence",
        Action.IGNORED if much else Action.NOTED,
        seen,
        done,
        "",
        {
            "half_period_px": half,
            "half_period_nm": None if half is None or pixel_m is None else 1e9 * half * pixel_m,
            "mean": confidence.mean if math.isfinite(confidence.mean) else None,
            "doubtful": confidence.doubtful if math.isfinite(confidence.doubtful) else None,
        },
    )
