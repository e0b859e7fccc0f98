"""Finds frames that lag behind the positions, or are ahead of them, and the first one that does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data.raw import RawData
from ..refinement.arrays import arrays_for
from ..refinement.noise import counts_per_photon
from .trial import PATTERNS, Fit, TrialRunner, fits_better
from .variants import AS_IT_IS, Variant

LAGS = (-1, 1)
_FRAMED = 40
"""Number of patterns by which a search may be wrong: so many more on either side are compared in the end."""

_LOCAL = 3.0
"""Successive patterns are close if their distance is at most this multiple of that of nearest neighbours."""

_AT_START = 3
"""If fewer patterns than this come before the first lagging one, all of them are taken to lag."""


@dataclass(frozen=True)
class Lagging:
    """Frames that fit far better with another position.

    Attributes
    ----------
    lag
        Pattern ``k`` belongs to position ``k + lag``.
    first
        Number of the first pattern that does, as far as this can be told; None if it cannot.
    as_it_is, fit
        The fits of a part of the scan with its own positions, and with the others.
    """

    lag: int
    first: int | None
    as_it_is: Fit
    fit: Fit


def find_lag(raw: RawData, runner: TrialRunner) -> Lagging | None:
    """Look for frames that lag in the second half of a scan, and for where that begins.

    Raises
    ------
    Stopped
        If the trial was asked to stop.
    """
    half = _second_halves(raw)
    if len(half) < 2 * _AT_START:
        return None
    places = runner.compact(half)
    as_it_is, *moved = (_fit(runner, places, lag) for lag in (0, *LAGS))
    best = min(moved, key=lambda fit: fit.error)
    if not fits_better(best, as_it_is):
        return None
    lag = best.variant.lag
    return Lagging(lag, _first(raw, runner, lag), as_it_is, best)


def find_lag_in(raw: RawData, *, known: int = 0, device: str = "cpu") -> Lagging | None:
    """As :func:`find_lag`, of a scan that has not been reconstructed.

    Parameters
    ----------
    raw
        The scan, in the order in which it was recorded.
    known
        A lag of one pattern that there has to be somewhere, -1 or 1, because numbers do not match; 0: none is
        known of. Such a one is found even if it begins near the end.
    device
        As :func:`~ptychopinn_ptychodus.refinement.arrays.arrays_for` takes it.
    """
    some = raw.diff3d[np.unique(np.linspace(0, len(raw) - 1, min(len(raw), PATTERNS)).astype(np.int64))]
    gain = counts_per_photon(some, raw.bad_pixels)
    probe, weights = np.reshape(raw.probeGuess, (-1, raw.N, raw.N)), np.ones(len(raw))
    runner = TrialRunner(raw, probe, "amplitude", gain, weights, arrays_for(device), None)
    found = find_lag(raw, runner)
    if found is not None or known not in LAGS or len(raw) < _AT_START + 2:
        return found
    first = _first(raw, runner, known)
    if first is None or first + _AT_START > len(raw):
        return None
    behind = _within(raw, first, first + PATTERNS)
    as_it_is, fit = (_fit(runner, behind, lag) for lag in (0, known))
    return Lagging(known, first, as_it_is, fit) if fits_better(fit, as_it_is) else None


def _fit(runner: TrialRunner, places: NDArray[np.int64], lag: int) -> Fit:
    """The fit of the patterns at these places, where pattern ``k`` belongs to place ``k + lag``."""
    return runner.fit(runner.part(places, lag), Variant(lag=lag) if lag else AS_IT_IS)


def _first(raw: RawData, runner: TrialRunner, lag: int) -> int | None:
    if len(np.unique(raw.scan_index)) > 1:
        return None
    positions = np.stack((raw.xcoords, raw.ycoords), -1)
    nearest = np.median(cKDTree(positions).query(positions, 2)[0][:, 1])
    steps = np.hypot(*np.diff(positions, axis=0).T)
    if float(np.median(steps)) > _LOCAL * max(float(nearest), 1e-9):
        return None  # successive patterns lie far apart, so that a block of them would hardly overlap
    low, high = 0, len(raw)
    while high - low > PATTERNS:
        middle = (low + high) // 2
        block = _within(raw, middle - PATTERNS // 2, middle + PATTERNS // 2)
        if fits_better(_fit(runner, block, lag), _fit(runner, block, 0)):
            high = middle
        else:
            low = middle
    block = _within(raw, low - _FRAMED, high + _FRAMED)
    # for each place, how much worse its own pattern fits than the lagging one
    gain = _fit(runner, block, 0).each - _fit(runner, block, lag).each
    total = np.concatenate([[0.0], np.cumsum(gain)])
    first = int(np.argmin(total))
    return 0 if low == 0 and first < _AT_START else int(block[0]) + first - lag


def _second_halves(raw: RawData) -> NDArray[np.int64]:
    """Numbers of the patterns that are in the second half of their scan, with one of it on either side."""
    scan, number = raw.scan_index, np.arange(len(raw))
    inside = np.zeros(len(raw), bool)
    inside[1:-1] = (scan[1:-1] == scan[:-2]) & (scan[1:-1] == scan[2:])
    for one in np.unique(scan):
        (members,) = np.nonzero(scan == one)
        inside[members[: len(members) // 2]] = False
    return number[inside]


def _within(raw: RawData, first: int, stop: int) -> NDArray[np.int64]:
    return np.arange(max(first, 1), min(stop, len(raw) - 1))
