"""Single patterns that were recorded without the beam, or with far more light than the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..detector import frame_energies
from ..scan import Scan
from .findings import Action, Finding

NEIGHBOURS = 8
"""Nearest positions that a pattern is compared with: they show nearly the same part of the sample."""

DARK = 0.05
"""A pattern with less than this part of its neighbours' light had no beam: no sample is that abrupt."""

UNLIT = 1e-3
"""A pattern with less than this part of the scan's usual light shows nothing, whatever is around it."""

FLASH = 3.0
"""A pattern with more than this multiple of its neighbours' light and of the usual light is a flash."""

_USUAL = 0.75  # quantile: a sample darkens patterns, so that the bright ones show the beam


def sound_frames(raw: Scan) -> NDArray[np.bool_]:
    """Which patterns were recorded with the beam as it usually was.

    The light of a pattern, that is Σ amplitude² over good pixels, is compared with the median of those at the
    nearest positions of the same scan. Patterns over an absorbing part of the sample pass, as their
    neighbours lie there as well; patterns without beam and flashes do not.

    Returns
    -------
    ndarray
        (M,) bool. At least one is True in each scan of ``raw.scan_index``.
    """
    return _sound(raw, frame_energies(raw.diff3d, raw.bad_pixels))


def groupable_frames(raw: Scan, channels: int) -> NDArray[np.int64]:
    """Numbers of the patterns that groups of ``channels`` are made of, (m,) int64, ascending.

    These are the sound ones (:func:`sound_frames`), or all of them where a scan would have too few left.
    """
    sound = sound_frames(raw)
    numbers, left = np.unique(raw.scan_index[sound], return_counts=True)
    if len(numbers) < len(np.unique(raw.scan_index)) or left.min() < channels:
        return np.arange(len(sound))
    return np.flatnonzero(sound)


def _sound(raw: Scan, light: NDArray[np.float64]) -> NDArray[np.bool_]:
    sound = np.ones(len(light), np.bool_)
    for number in np.unique(raw.scan_index):
        members = np.flatnonzero(raw.scan_index == number)
        sound[members] = usual_light(light[members], raw.xcoords[members], raw.ycoords[members])
    return sound


def examine_frames(raw: Scan) -> list[Finding]:
    """Patterns without beam, and flashes."""
    light = frame_energies(raw.diff3d, raw.bad_pixels)
    sound = _sound(raw, light)
    if sound.all():
        return []
    usual = float(np.median(light[sound]))
    findings = []
    for code, chosen, what in (
        ("dark-frames", ~sound & (light < usual), "were recorded without beam"),
        ("flash-frames", ~sound & (light >= usual), "hold a flash"),
    ):
        numbers = np.flatnonzero(chosen)
        if len(numbers) == 0:
            continue
        first = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
        seen = (
            f"{len(numbers)} of {len(light)} patterns {what}: they have "
            f"{light[chosen].mean() / usual:.2g} times the usual light, unlike those around them (in "
            f"the order of the positions, from 0 on: {first})."
        )
        done = (
            "They stay in the scan, but take no part in its scale and in what the network sees, and "
            "refinement gives little weight to what does not fit. Leave them out of the scan."
        )
        values = {"frames": numbers[:1000].tolist(), "usual_light": usual}
        findings.append(Finding(code, "detector", Action.IGNORED, seen, done, values=values))
    return findings


def usual_light(
    light: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """:func:`sound_frames` of one scan: ``light`` is (M,), of any unit; x and y are (M,) in pixels."""
    if len(light) < 3:
        return np.ones(len(light), np.bool_)
    usual = float(np.quantile(light, _USUAL))
    around = neighbours_light(light, x, y)
    unlit = light < np.maximum(DARK * around, UNLIT * usual)
    flash = (light > FLASH * around) & (light > FLASH * usual)
    sound = ~(unlit | flash)
    return sound if sound.any() else np.ones(len(light), np.bool_)


def neighbours_light(
    light: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M,): median of the light at the nearest positions, each pattern's own left out."""
    count = min(NEIGHBOURS, len(light) - 1)
    points = np.stack([x, y], -1)
    nearest = np.atleast_2d(cKDTree(points).query(points, k=count + 1)[1])
    # patterns at one and the same position come in any order, so the pattern itself need not be the first
    own = nearest == np.arange(len(light))[:, None]
    own[~own.any(1), -1] = True
    others = nearest[~own].reshape(len(light), count)
    median: NDArray[np.float64] = np.median(light[others], axis=1)
    return median
