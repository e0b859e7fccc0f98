"""Pixels that cannot have measured what they hold, and a mask that covers the wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .config import ExaminationConfig
from .findings import Action, Finding
from .statistics import PixelStatistics, Readings

SETTING = "PtychoPINNPluginExamination.MaskPixels"
REFUSE = "PtychoPINNPluginExamination.Refuse"

_NEARLY_ALL = 0.9
"""A pixel is stuck if it holds no measured value in at least this part of the patterns."""

_PARTLY = 0.1
"""So many pixels that reach the type's maximum at times, of those that always hold it, mean saturation."""

_MOST_MASKED = 0.98

_ABOVE_NEIGHBOURS, _ABOVE_SHARPNESS, _ABOVE_PROBE = 10.0, 3.0, 10.0
"""A hot pixel is so many times as bright as its neighbours; as the sharpest peak of the probe's far field is
brighter than its own; and as the far field puts there."""

_SIGNIFICANT = 6.0
_STEADY = 0.7  # relative standard deviation: speckle has about 1
_LEAST_COUNTS = 30.0  # of a pixel, over all sampled patterns, before its brightness means anything
_LEAST_FRAMES = 20  # before a pixel that never changes is a wonder
_ALWAYS_LIT = 0.95
_SAFETY = 0.1  # of what the far field of an imperfectly known probe predicts
_TRUSTED_FIT = 0.8
_TOLERANCE = 0.03  # part of N by which the far field's edges may be wrong

_MOST_NAMED = 1000  # pixels in the values of a finding, [row, column] each

_MOST_LIGHT = 0.5
_LITTLE = 0.1


def describe(mask: NDArray[np.bool_]) -> str:
    """Where the pixels of a mask are, in words."""
    places = np.argwhere(mask)
    if len(places) <= 5:
        return ", ".join(f"(row {row}, column {column})" for row, column in places)
    (top, left), (bottom, right) = places.min(0), places.max(0)
    return f"within rows {top} to {bottom} and columns {left} to {right}"


def _pixels(mask: NDArray[np.bool_], one: str, several: str) -> str:
    """How many pixels, where, and what they do."""
    count = int(mask.sum())
    return f"1 pixel {describe(mask)} {one}" if count == 1 else f"{count} pixels {describe(mask)} {several}"


def _finding(code: str, seen: str, found: NDArray[np.bool_], config: ExaminationConfig) -> Finding:
    values = {"count": int(found.sum()), "pixels": np.argwhere(found)[:_MOST_NAMED].tolist()}
    if config.mask_pixels:
        done = "Masked: treated as bad pixels."
        return Finding(code, "detector", Action.MENDED, seen, done, SETTING, values)
    done = "Used as measured: mark such pixels as bad, or set MaskPixels to True."
    return Finding(code, "detector", Action.IGNORED, seen, done, SETTING, values)


# ---------------------------------------------------------------------- values that are no measurement


def stuck_pixels(
    readings: Readings, good: NDArray[np.bool_], dtype: np.dtype[Any], config: ExaminationConfig
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Pixels without a measured value in (nearly) every pattern: (N, N) bool, and the finding."""
    frames = len(readings.light)
    enough = _NEARLY_ALL * frames
    never = readings.unmeasured - readings.at_top
    wrong, top = good & (never >= enough), good & (readings.at_top >= enough)
    at_times = int((good & (readings.at_top > 0) & ~top).sum())
    if at_times > max(4, _PARTLY * int(top.sum())):
        top = np.zeros_like(top)  # a bright pattern beyond what the type can hold
    mixed = good & (readings.unmeasured >= enough) & ~wrong & ~top & (never > 0)
    found = wrong | top | mixed
    if not found.any() or int(found.sum()) > _MOST_MASKED * int(good.sum()):
        return np.zeros_like(found), []
    held = []
    if top.any():
        held.append(f"{np.iinfo(dtype).max}, the largest value of their type,")
    if (wrong | mixed).any():
        held.append("a negative number, NaN or infinity")
    least = int(readings.unmeasured[found].min())
    when = f"all {frames}" if least == frames else f"at least {least} of {frames}"
    if not config.mask_pixels and (wrong | mixed).any():
        return np.zeros_like(found), []  # an error says so
    seen = f"{_pixels(found, 'holds', 'hold')} {' or '.join(held)} in {when} patterns, which is no count."
    return found, [_finding("stuck-pixels", seen, found, config)]


# ---------------------------------------------------------------------- hot and dead pixels


def _neighbours(image: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(8, N, N): the neighbours' values in ascending order; NaN, last, where one is bad or outside."""
    padded = np.pad(np.where(good, image, np.nan), 1, constant_values=np.nan)
    rows, columns = image.shape
    stack = [
        padded[1 + r : 1 + r + rows, 1 + c : 1 + c + columns]
        for r in (-1, 0, 1)
        for c in (-1, 0, 1)
        if (r, c) != (0, 0)
    ]
    ordered: NDArray[np.float64] = np.sort(np.stack(stack), axis=0)
    return ordered


def _second_largest(image: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The second brightest neighbour: bright lines and edges have two; NaN where there are fewer than two."""
    ordered = _neighbours(image, good)
    known = 8 - np.isnan(ordered).sum(0)
    second = np.take_along_axis(ordered, np.maximum(known - 2, 0)[None], 0)[0]
    return np.where(known >= 2, second, np.nan)


def _between(lit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N, N) bool: pixels with lit ones on both sides of them, in their row or in their column."""
    out = np.zeros_like(lit)
    for axis in (0, 1):
        before = np.logical_or.accumulate(lit, axis)
        after = np.flip(np.logical_or.accumulate(np.flip(lit, axis), axis), axis)
        out |= before & after
    return out


def hot_pixels(
    pixels: PixelStatistics, good: NDArray[np.bool_], model: NDArray[np.float64], config: ExaminationConfig
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Pixels with a light of their own: (N, N) bool, and the finding.

    Such a pixel outshines its neighbours in all patterns alike, more than the sharpest peak of the probe's
    far field does, where the far field has no such light; or it never changes at all while others do.
    """
    mean, count = pixels.mean, pixels.count
    quantum = pixels.quantum(good)
    second = _second_largest(mean, good)
    bright = model > 1e-3 * model.max()
    own = _second_largest(model, np.ones_like(good))
    sharpness = float(np.max(model[bright] / np.maximum(own[bright], 1e-12 * model.max())))
    total = float(mean[good].sum())
    predicted = total * ndimage.maximum_filter(model, 3) / max(float(model[good].sum()), 1e-12)
    least = max(_LEAST_COUNTS * quantum / count, 1e-9 * total)
    error = np.sqrt(np.maximum(pixels.variance, quantum * mean) / count)
    with np.errstate(invalid="ignore"):
        outshining = (
            (
                mean
                > max(_ABOVE_NEIGHBOURS, _ABOVE_SHARPNESS * sharpness) * np.maximum(second, quantum / count)
            )
            & (mean - second > _SIGNIFICANT * error)
            & (mean > _ABOVE_PROBE * predicted)
            & (mean > least)
            & (pixels.variance < (_STEADY * mean) ** 2)
            & (pixels.lit > 0.5)
        )
    constant = (pixels.least == pixels.most) & (mean > 0)
    lit = good & (mean > 0)
    unchanging = np.zeros_like(good)
    if count >= _LEAST_FRAMES and constant[lit].mean() < 0.5 and quantum > 0:
        changing = lit & ~constant
        # what saturated pixels share with others that reach it at times only
        limit = float(pixels.most[changing].max())
        unchanging = constant & (mean > quantum) & (mean != limit)
    found = good & (outshining | unchanging)
    if not found.any() or int(found.sum()) > _MOST_MASKED * int(good.sum()):
        return np.zeros_like(found), []
    brightest = int(np.argmax(np.where(found, mean, -1)))
    seen = (
        f"{_pixels(found, 'is hot and holds', 'are hot and hold')} nearly the same value in all patterns, "
        f"far from what the pixels around count: up to {mean.ravel()[brightest]:.4g} in the mean, beside "
        f"{np.nan_to_num(second.ravel()[brightest]):.3g}."
    )
    return found, [_finding("hot-pixels", seen, found, config)]


def dead_pixels(
    pixels: PixelStatistics,
    good: NDArray[np.bool_],
    model: NDArray[np.float64],
    config: ExaminationConfig,
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Pixels that never count anything although there is light: (N, N) bool, and the finding.

    These are single ones among lit ones, and larger shadows with light on both sides, where the probe's far
    field puts light.
    """
    mean, count = pixels.mean, pixels.count
    quantum = pixels.quantum(good)
    zero = good & (pixels.most == 0)
    if not zero.any() or count < 2 or quantum <= 0:
        return np.zeros_like(zero), []
    ordered = _neighbours(np.where(pixels.lit >= _ALWAYS_LIT, mean, 0.0), good)
    second = np.nan_to_num(ordered[1])
    second[np.isnan(ordered[4])] = 0.0  # too few neighbours to judge
    # a far field has dark rings and points of its own: what it has here, relative to the pixels around
    around = _neighbours(model, np.ones_like(good))[1]
    relative = np.minimum(model / np.maximum(np.nan_to_num(around), 1e-12 * model.max()), 1.0)
    single = zero & (_SAFETY * relative * second * count > _LEAST_COUNTS * quantum)
    size = 2 * int(np.ceil(_TOLERANCE * len(good))) + 1
    light, expected = float(mean[good].sum()), float(model[good & ~zero].sum())
    fit = float(np.sqrt(mean * model)[good].sum()) / np.sqrt(light * max(expected, 1e-12))
    surely = ndimage.minimum_filter(model, size) * light / max(expected, 1e-12)
    shadow = (fit > _TRUSTED_FIT) & (_SAFETY * surely * count > _LEAST_COUNTS * quantum)
    dark = zero & shadow & _between(good & (pixels.lit >= _ALWAYS_LIT))
    found = single | dark
    if not found.any() or int(found.sum()) > _MOST_MASKED * int(good.sum()):
        return np.zeros_like(found), []
    seen = f"{_pixels(found, 'is dead and never counts', 'are dead and never count')} "
    seen += "anything, with light all around."
    return found, [_finding("dead-pixels", seen, found, config)]


# ---------------------------------------------------------------------- the mask


def inverted_mask(
    pixels: PixelStatistics, bad: NDArray[np.bool_], model: NDArray[np.float64], config: ExaminationConfig
) -> list[Finding]:
    """Whether the bad pixels are those that measured.

    Bad pixels that hold most of the light are no proof: behind a beamstop that lets some pass, or where a
    detector was saturated, they may. But such a mask is small, and the good pixels around it hold what the
    probe's far field puts there. What never changes in a bad pixel is not counted as light.
    """
    if not bad.any():
        return []
    measured = pixels.least < pixels.most if pixels.count > 1 else np.ones_like(bad)
    light = np.where(measured, pixels.mean, 0.0)
    total = float(light.sum())
    if total <= 0:
        return []
    hidden, area = float(light[bad].sum()) / total, float(bad.mean())
    expected = float(model[~bad].sum())
    starved = 1 - hidden < _LITTLE * expected
    fits = float(np.sqrt(light[bad] * model[bad]).sum()) ** 2 > _TRUSTED_FIT**2 * float(
        light[bad].sum() * model[bad].sum()
    )
    if not (hidden > _MOST_LIGHT and (area > 0.5 or (starved and fits and area > 0.2))):
        return []
    seen = (
        f"The pixels that are marked as bad, {area:.0%} of the detector, hold {hidden:.0%} of the measured "
        "light."
    )
    remedy = "The mask is probably inverted: True (1) means bad. Invert it."
    values = {"light": hidden, "area": area}
    if config.refuse:
        return [Finding("inverted-mask", "detector", Action.REFUSED, seen, remedy, REFUSE, values)]
    done = f"The mask is used as it is, so that most of the light goes unused. {remedy}"
    return [Finding("inverted-mask", "detector", Action.IGNORED, seen, done, REFUSE, values)]
