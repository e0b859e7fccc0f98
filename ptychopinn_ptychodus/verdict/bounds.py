"""The error of a result, and what it is to be compared with: noise, and what needs no model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data.raw import RawData
from ..refinement.arrays import Arrays
from ..refinement.iterate import Iterate, Light, chequerboard
from ..refinement.model import ScanModel
from ..refinement.noise import counts_per_photon, expected_error, least_error
from ..refinement.start import Window

_LIT = 1e-5  # of the modelled light, that is not background: with less, there is no light but that
_MOST_PATTERNS = 512
_MOST_PIXELS = 1 << 23
"""At most so many patterns and pixels are compared: spread evenly over the scan, they represent it."""

_FOR_NOISE = 128
_NEIGHBOURS = 4
_LITTLE = 0.3
"""Least part of the differences between patterns that is not noise; with less, a fit says little."""

_DIM = 1.0
"""Mean number of photons of a pixel below which amplitudes are a bad measure of its rate."""

_BACKGROUND = 0.01
"""Part of a predicted pattern that is made even.

Otherwise a single photon where none was predicted would outweigh everything else.
"""


@dataclass(frozen=True)
class Bounds:
    """Errors divided by the counts, as a refinement has them.

    They are Σ (√λ - √n)² / Σ n, the sums over good pixels, or the Poisson error in the place of the former.

    Attributes
    ----------
    error
        The error of the result, with the scale of the probe that fits best.
    noise
        The error that noise alone leaves, for these counts and ``counts_per_photon``.
    counts_per_photon
        See :func:`.noise.counts_per_photon`.
    flat
        The error of an object that is 1 everywhere, with the same probe.
    mean_pattern
        The error of the one pattern that explains all best, scaled to each of them. It needs neither an
        object nor positions.
    neighbours
        The error of the mean of the four nearest patterns.
    """

    error: float
    noise: float
    counts_per_photon: float
    flat: float
    mean_pattern: float
    neighbours: float

    @property
    def tells_little(self) -> bool:
        """Whether patterns hardly differ from each other by more than noise."""
        return self.mean_pattern - self.noise <= _LITTLE * self.mean_pattern

    def with_error(self, error: float) -> Bounds:
        """The same bounds with an error that is known better, since it is of all patterns."""
        return replace(self, error=error)

    @property
    def unexplained(self) -> float:
        """The error of the result over that of the mean pattern, each less that of noise."""
        room = self.mean_pattern - self.noise
        return max(self.error - self.noise, 0.0) / room if room > 0 else 0.0


def bounds_of(
    raw: RawData,
    object_: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    positions: NDArray[np.float64],
    metric: str,
    weights: NDArray[np.float64],
    arrays: Arrays,
    light: Light,
) -> Bounds:
    """All bounds of a result; parameters as those of :func:`.judgement.judge`."""
    chosen = _spread(len(raw), min(_MOST_PATTERNS, _MOST_PIXELS // raw.N**2))
    gain = counts_per_photon(raw.diff3d[_spread(len(raw), _FOR_NOISE)], raw.bad_pixels)
    found = errors_of(raw, object_, probe, positions, metric, weights, arrays, chosen, gain, light)
    flat = errors_of(
        raw, np.ones_like(object_), probe, positions, metric, weights, arrays, chosen, gain, light
    )
    mean_pattern, neighbours = _without_model(raw, positions, weights, chosen, metric)
    return Bounds(found.error, found.noise, gain, flat.error, mean_pattern, neighbours)


@dataclass(frozen=True)
class Errors:
    """``error`` and ``noise`` as in :class:`Bounds`; ``each``, (B,), is that of each pattern."""

    error: float
    noise: float
    each: NDArray[np.float64]


def _spread(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def errors_of(
    raw: RawData,
    object_: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    positions: NDArray[np.float64],
    metric: str,
    weights: NDArray[np.float64],
    arrays: Arrays,
    chosen: NDArray[np.int64],
    gain: float,
    light: Light,
) -> Errors:
    """The error of an estimate on some patterns, its probe scaled to them, and the error of noise alone."""
    moved = positions - np.stack((raw.xcoords, raw.ycoords), -1)
    window = Window(object_.shape, raw, float(np.abs(moved).max()) + 1.0)
    iterate = Iterate(
        canvas=arrays.put(window.cut(np.asarray(object_, np.complex64))),
        probe=arrays.put(np.asarray(probe, np.complex64) * chequerboard(raw.N)),
        positions=window.inside(positions),
    )
    model = ScanModel(raw, arrays, metric)
    model.light = light
    found = model.compare(iterate, chosen)
    w = weights[chosen]
    counts, cross, modelled = (float(w @ values) for values in (found.counts, found.cross, found.modelled))
    lit = modelled - light.background * float(w.sum()) * float((~raw.bad_pixels).sum())
    if not (counts > 0 and lit > _LIT * modelled and cross > 0 and math.isfinite(modelled)):
        return Errors(math.inf, math.nan, np.full(len(chosen), math.inf))
    factor = math.sqrt(counts / modelled) if metric == "poisson" else cross / modelled
    iterate.probe *= factor
    dim, of_dim = _dim_pixels(raw, chosen, gain)
    noise = 0.0
    for part, _, expected in model.amplitudes(iterate, chosen):
        rate = np.asarray(arrays.get(expected), np.float64) ** 2
        each = expected_error(rate / gain, metric)
        if metric == "amplitude":
            each[:, dim] = of_dim[dim]
        noise += gain * float(weights[part] @ each.sum((1, 2)))
    errors = model.compare(iterate, chosen).errors
    return Errors(float(w @ errors) / counts, noise / counts, errors / float(found.counts.mean()))


def _dim_pixels(
    raw: RawData, chosen: NDArray[np.int64], gain: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Good pixels of less than a photon on average, (N, N), and what noise leaves of amplitudes there.

    On such pixels the result does not tell the rate: the value that fits amplitudes best is far below it. If
    patterns are dim as a whole, the mean rate is used in its place. If they are bright, there are no such
    pixels: dark ones add little to the error, and differ between patterns.
    """
    counts = np.zeros((raw.N, raw.N))
    for pattern in raw.diff3d[chosen]:
        counts += pattern.astype(np.float64) ** 2
    photons = counts / (len(chosen) * gain)
    dim = ~raw.bad_pixels & (photons < _DIM)
    if float(photons[~raw.bad_pixels].mean()) >= _DIM:
        dim[:] = False
    return dim, least_error(photons)


def _without_model(
    raw: RawData,
    positions: NDArray[np.float64],
    weights: NDArray[np.float64],
    chosen: NDArray[np.int64],
    metric: str,
) -> tuple[float, float]:
    """Errors of the mean pattern, and of the mean of the nearest ones, each scaled to fit best."""
    amplitude = raw.diff3d[chosen] * ~raw.bad_pixels
    w = weights[chosen]
    total = float(w @ (amplitude.astype(np.float64) ** 2).sum((1, 2)))
    mean = np.tensordot(w, amplitude.astype(np.float64), 1) / w.sum()
    found = [_error_of_prediction(amplitude, np.broadcast_to(mean, amplitude.shape), metric)]
    if len(raw) > _NEIGHBOURS:
        others = cKDTree(positions).query(positions[chosen], _NEIGHBOURS + 1)[1][:, 1:]
        near = sum(raw.diff3d[column] for column in others.T) / _NEIGHBOURS * ~raw.bad_pixels
        found.append(_error_of_prediction(amplitude, near, metric))
    sums = [float(w @ errors) / total for errors in found]
    return sums[0], sums[-1]


def _error_of_prediction(
    amplitude: NDArray[np.floating], predicted: NDArray[np.floating], metric: str
) -> NDArray[np.float64]:
    """(B,) error of predicted amplitudes, each pattern's scaled to fit best."""
    measured, expected = amplitude.astype(np.float64), predicted.astype(np.float64)
    squares = np.maximum((expected**2).sum((1, 2)), np.finfo(np.float64).tiny)
    if metric == "amplitude":
        scale = (measured * expected).sum((1, 2)) / squares
        return np.asarray(((measured - scale[:, None, None] * expected) ** 2).sum((1, 2)))
    counts = measured**2
    rate = expected**2 * (counts.sum((1, 2)) / squares)[:, None, None]
    rate += _BACKGROUND * (counts.mean((1, 2))[:, None, None] - rate)
    safe = np.maximum(rate, np.finfo(np.float64).tiny)
    logs = np.log(np.where(counts > 0, counts, 1.0) / np.where(counts > 0, safe, 1.0))
    return np.asarray(0.5 * (rate - counts + counts * logs).sum((1, 2)))
