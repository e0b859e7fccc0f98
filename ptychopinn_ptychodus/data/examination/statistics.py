"""What the checks of pixels need to know of the patterns, gathered in passes of a few patterns at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 16
"""Patterns that are looked at together: with their copies in double precision they stay near the cache."""

MOST_SAMPLED = 256
"""Patterns from which the figures of each pixel are taken, spread over the scan: more would tell no more."""

_LEAST_USUAL, _MOST_USUAL = 1e-3, 4.0
_BRIGHT = 0.75  # quantile


@dataclass(frozen=True)
class Readings:
    """What all patterns of a scan were read for.

    Attributes
    ----------
    unmeasured
        (N, N) int, patterns in which a pixel holds what no detector measures: a negative number, NaN,
        infinity, or its type's maximum.
    at_top
        (N, N) int, patterns in which it holds its type's maximum, which may be saturation.
    light
        (M,) float64, sum of what was measured on good pixels.
    """

    unmeasured: NDArray[np.int64]
    at_top: NDArray[np.int64]
    light: NDArray[np.float64]

    def usual(self) -> NDArray[np.intp]:
        """Indices of patterns with about as much light as usual, at most :data:`MOST_SAMPLED` of them."""
        bright = float(np.quantile(self.light, _BRIGHT))
        usual = np.flatnonzero((self.light > _LEAST_USUAL * bright) & (self.light < _MOST_USUAL * bright))
        if len(usual) == 0:
            usual = np.arange(len(self.light))
        return usual[:: -(-len(usual) // MOST_SAMPLED)]


@dataclass(frozen=True)
class PixelStatistics:
    """Figures of each pixel over a sample of patterns, (N, N) float64 each, in counts (or amplitude²).

    Attributes
    ----------
    count
        Number of patterns.
    mean, variance, least, most
        Of the counts; a negative number, NaN or infinity counts as 0.
    lit
        Part of the patterns in which it holds anything.
    """

    count: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    least: NDArray[np.float64]
    most: NDArray[np.float64]
    lit: NDArray[np.float64]

    def quantum(self, good: NDArray[np.bool_]) -> float:
        """About the variance that noise alone gives for a mean of 1: the unit of counts, 1 for photons."""
        seen = good & (self.mean > 0)
        if not seen.any():
            return 0.0
        return float(np.quantile(self.variance[seen] / self.mean[seen], 0.05))


def unmeasured(chunk: NDArray[Any]) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Where values are not measured ones, and where they are their type's maximum; None for nowhere."""
    kind = chunk.dtype.kind
    if kind == "f":
        # NaN is carried through by min and max
        least, most = float(chunk.min()), float(chunk.max())
        if least >= 0 and np.isfinite(most):
            return None, None
        with np.errstate(invalid="ignore"):
            return ~np.isfinite(chunk) | (chunk < 0), None
    largest = np.iinfo(chunk.dtype).max
    top = chunk == largest if int(chunk.max()) == largest else None
    negative = chunk < 0 if kind == "i" and int(chunk.min()) < 0 else None
    if top is None or negative is None:
        return (top if negative is None else negative), top
    return top | negative, top


def read_patterns(patterns: NDArray[Any], good: NDArray[np.bool_]) -> Readings:
    """One pass over all patterns."""
    wrong, at_top = np.zeros((2, *good.shape), np.int64)
    light = np.empty(len(patterns))
    every = bool(good.all())
    for start in range(0, len(patterns), 4 * FEW):
        chunk = np.asarray(patterns[start : start + 4 * FEW])
        bad, top = unmeasured(chunk)
        if bad is not None:
            wrong += bad.sum(0)
            chunk = np.where(bad, 0, chunk)
        if top is not None:
            at_top += top.sum(0)
        pixels = chunk.reshape(len(chunk), -1) if every else chunk[:, good]
        light[start : start + 4 * FEW] = pixels.sum(1, dtype=np.float64)
    return Readings(wrong, at_top, light)


def sampled(patterns: NDArray[Any], chosen: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
    """The chosen patterns, a few at a time, as stored."""
    for start in range(0, len(chosen), FEW):
        yield np.asarray(patterns[chosen[start : start + FEW]])


def pixel_statistics(patterns: NDArray[Any], chosen: NDArray[np.intp], domain: str) -> PixelStatistics:
    """Figures of each pixel over the chosen patterns."""
    shape = patterns.shape[1:]
    total, square, lit = np.zeros((3, *shape))
    least, most = np.full(shape, np.inf), np.zeros(shape)
    for chunk in sampled(patterns, chosen):
        wrong, top = unmeasured(chunk)
        values = chunk.astype(np.float64)
        if wrong is not None:
            # the type's maximum may be saturation: the checks of pixels see it as it is
            values[wrong if top is None else wrong & ~top] = 0
        if domain == "amplitude":
            values *= values
        total += values.sum(0)
        square += np.einsum("kij,kij->ij", values, values)
        lit += np.count_nonzero(values, 0)
        np.minimum(least, values.min(0), out=least)
        np.maximum(most, values.max(0), out=most)
    count = len(chosen)
    mean = total / count
    variance = np.maximum(square / count - mean**2, 0.0)
    return PixelStatistics(count, mean, variance, least, most, lit / count)


def far_field(probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """(N, N) float64: intensity of a probe's far field, zero frequency at (N/2, N/2), whose sum is 1."""
    modes = probe.astype(np.complex128)
    intensity = (np.abs(np.fft.fftshift(np.fft.fft2(modes), axes=(-2, -1))) ** 2).sum(0)
    normalised: NDArray[np.float64] = intensity / intensity.sum()
    return normalised
