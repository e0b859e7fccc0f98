"""What noise alone leaves of the error of a reconstruction that is right, and the noise behind an error."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

PHOTONS = 0.25
"""Variance of √n of photons: what an estimate leaves beyond that is mostly what is not fitted yet."""

_LARGEST = 100.0
"""Expected counts beyond which the series in 1/λ is exact to single precision."""

_KNOTS = 400
_RINGS = ((0.5, 0.55), (0.55, 0.6), (0.6, 0.65), (0.65, 0.72))
"""Lags, as a part of N, that the product of a probe with itself does not reach: those in the corners."""

_SOME = 64  # patterns, which tell as much about their noise as all
_FLAT = 1.25
_LIKE_PHOTONS = 2.5
"""Counts whose variance is within this factor of their mean are taken for photons."""


def expected_error(expected: NDArray[np.floating], metric: str) -> NDArray[np.float64]:
    """What a pixel with Poisson counts adds to the error of the right model, on average.

    Parameters
    ----------
    expected
        Any shape, expected counts λ >= 0.
    metric
        ``"amplitude"``: E[(√n - √λ)²], which is 1/4 for large λ and 2λ for λ → 0. ``"poisson"``: a quarter of
        the expected deviance, ½ E[λ - n + n log(n/λ)], which is 1/4 for large λ, too.

    Returns
    -------
    ndarray
        As ``expected``, float64.
    """
    knots, table = _table(metric)
    rate = np.asarray(expected, dtype=np.float64)
    inside = np.interp(np.log(np.maximum(rate, knots[0])), np.log(knots), table)
    # the first knot is in the range where a pixel counts one photon or none
    small = rate * (table[0] / knots[0])
    large = 0.25 + _slope(metric) / np.maximum(rate, _LARGEST)
    return np.asarray(np.where(rate < knots[0], small, np.where(rate > _LARGEST, large, inside)))


def left_by_photons(mean: NDArray[np.float64], per_photon: float, metric: str) -> float:
    """The error of a pattern in counts, on average, that the noise of photons alone leaves the right model.

    ``mean`` is the mean pattern in counts, of any shape, and ``per_photon`` are the counts of one photon;
    ``metric`` is as :func:`expected_error` takes it.
    """
    return per_photon * float(expected_error(mean / per_photon, metric).sum())


def least_error(expected: NDArray[np.floating]) -> NDArray[np.float64]:
    """What remains of the amplitude metric where the model is free: Var √n = λ - (E √n)².

    A fit by amplitudes tends to (E √n)², which is far below λ where a pixel counts one photon or none.
    Parameters and result as those of :func:`expected_error`.
    """
    rate = np.maximum(np.asarray(expected, np.float64), np.finfo(np.float64).tiny)
    # E(√n - √λ)² = 2λ - 2√λ E √n
    mean_root = (2.0 * rate - expected_error(rate, "amplitude")) / (2.0 * np.sqrt(rate))
    return np.asarray(np.clip(rate - mean_root**2, 0.0, None))


def _slope(metric: str) -> float:
    """Next term of the expansion for large counts, times λ; E √n = √λ (1 - 1/(8 λ) - 7/(128 λ²) - …)."""
    return 7.0 / 64.0 if metric == "amplitude" else 1.0 / 24.0


@cache
def _table(metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots of λ and the expectation there, summed over all counts that occur."""
    rate = np.geomspace(1e-4, _LARGEST, _KNOTS)
    counts = np.arange(0, 260, dtype=np.float64)  # 16 standard deviations beyond the largest rate
    # Poisson's distribution; scipy.stats has it, too, and importing that takes a third of a worker's start
    chance = np.exp(special.xlogy(counts, rate[:, None]) - special.gammaln(counts + 1) - rate[:, None])
    if metric == "amplitude":
        each = (np.sqrt(counts) - np.sqrt(rate[:, None])) ** 2
    else:
        deviance = rate[:, None] - counts + special.xlogy(counts, counts / rate[:, None])
        each = 0.5 * deviance
    return rate, np.asarray((chance * each).sum(1))


def counts_per_photon(amplitude: NDArray[np.floating], bad_pixels: NDArray[np.bool_]) -> float:
    """Variance over mean of the noise in patterns, from the patterns alone.

    A pattern's inverse Fourier transform is the correlation of the exit wave with itself: nothing is left of
    it at lags that are wider than the wave. White noise is the same at all lags. So the power in the corners
    of the lags, over the sum of the counts, is the variance of the counts over their mean: 1 for photons, the
    counts per photon for a detector that integrates, 1/(photons per unit) for patterns that were normalised.
    The mean pattern is subtracted first, so that what is alike in all frames takes no part.

    Parameters
    ----------
    amplitude
        (M, N, N) square roots of the patterns, bad pixels filled.
    bad_pixels
        (N, N) bool.

    Returns
    -------
    float
        1 exactly if the estimate is near it, or if it is above it and differs between lags: the exit wave
        then reaches so far that nothing of the noise can be told.
    """
    # a pattern at a time: all in double precision, and their transforms, take eight times their memory
    mean, sums = np.zeros(bad_pixels.shape), np.empty(len(amplitude))
    for number, pattern in enumerate(amplitude):
        counts = np.asarray(pattern, np.float64) ** 2
        mean += counts
        sums[number] = counts.sum()
    mean /= max(len(sums), 1)
    # those of bad pixels were made up from pixels around: smooth, so that nothing leaks from lag to lag
    measured = float(mean[~bad_pixels].sum())
    if len(sums) < 2 or not measured > 0:
        return 1.0
    like, power = mean / mean.sum(), np.zeros_like(mean)
    for pattern, total in zip(amplitude, sums, strict=True):
        rest = np.asarray(pattern, np.float64) ** 2 - total * like
        power += np.abs(np.fft.fft2(rest)) ** 2
    power /= measured * (len(sums) - 1)
    size = len(mean)
    lags = np.fft.fftfreq(size)
    radius = np.hypot(lags[:, None], lags)
    found = [float(np.median(power[(radius >= low) & (radius < high)])) for low, high in _RINGS]
    least = min(found)
    if least > 1.0 / _LIKE_PHOTONS and (least < _LIKE_PHOTONS or max(found) > _FLAT * least):
        return 1.0
    return max(least, float(np.finfo(np.float32).tiny))


def photon_unit(
    amplitude: NDArray[np.floating], sound: NDArray[np.int64], bad_pixels: NDArray[np.bool_]
) -> float:
    """Counts of one photon, by some of a scan's patterns.

    Parameters
    ----------
    amplitude, bad_pixels
        As :func:`counts_per_photon` takes them.
    sound
        Indices of the patterns that count. Without any, the answer is 1.
    """
    some = sound[np.unique(np.linspace(0, len(sound) - 1, _SOME).astype(np.int64))]
    return counts_per_photon(amplitude[some], bad_pixels) if len(some) else 1.0


def noise_of_root(mean: NDArray[np.float64], error: float) -> float:
    """Variance of a pixel's √n that would leave an error, in the unit of the counts; 1/4 for photons.

    It is the same for all pixels that have more counts than that, and no pixel has more than its counts.

    Parameters
    ----------
    mean
        Any shape, mean counts of pixels.
    error
        Sum over them of what is left of the counts.
    """
    counts = np.sort(mean.ravel())
    below = np.concatenate(([0.0], np.cumsum(counts)[:-1]))
    others = np.arange(len(counts), 0, -1)
    first = int(np.searchsorted(below + others * counts, error))
    if first == len(counts):  # more is left than there is
        return float(counts[-1])
    return float((error - below[first]) / others[first])
