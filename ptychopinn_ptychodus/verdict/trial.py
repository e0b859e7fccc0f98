"""A part of a scan, refined for a few epochs as other readings of the scan would have it.

A wrong reading is not only worse than the right one: with the wrong orientation of patterns or positions,
overlapping patterns contradict each other, and a refinement cannot do much better than without positions. So
the seven other orientations of the patterns are also what the scan as it is has to be better than.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data.raw import RawData
from ..refinement.arrays import Arrays
from ..refinement.config import RefinementConfig
from ..refinement.solver import refine
from ..refinement.start import StartError
from .bounds import errors_of
from .variants import AS_IT_IS, Variant, orientations

PATTERNS = 100
EPOCHS = 4
_SIZE = 64
_LIGHT = 0.9
"""Part of the light that the middle of the patterns must hold for the trial to do with that."""

_BETTER = 0.6
"""A reading fits better if it leaves less than that of what is left beyond noise as the scan is."""

_BETTER_SCALED = 0.35
"""... if it is another size of the pixels, which a probe out of focus looks like in a part."""

_BETTER_TURNED = 0.4
"""... if it is a half turn: under a probe that is its own conjugate, chance alone decides between the two."""

_LEAST = 0.95
"""... and less than that of the error as a whole."""

_LEAST_STRETCHED = 0.7
"""... if its patterns overlap less, which lets anything fit better."""

_ALIKE = 1.5
"""Readings that leave no more than that times the least are named as equivalent."""

_RIGHT = 0.94
"""A scan that leaves less than that part of what wrong orientations leave, in the trial, is read rightly."""

TIMES = 3.0
"""A result that leaves so many times what a short trial leaves can be bettered by refining it."""

_MARGIN_PX = 2.0
_SCALES = (0.5, 0.6, 0.72, 0.85, 1.18, 1.4, 1.65, 2.0)


class Stopped(Exception):
    """The trial was asked to stop."""


@dataclass(frozen=True)
class Fit:
    """How well a reading of the scan explains the part.

    Attributes
    ----------
    variant
        The reading.
    error, noise
        Error over the counts, and what noise alone leaves of it.
    each
        (M,) error of each pattern over the mean counts of a pattern.
    """

    variant: Variant
    error: float
    noise: float
    each: NDArray[np.float64]

    @property
    def beyond_noise(self) -> float:
        """The error beyond that of noise; fits take up a part of the noise, so not less than nothing."""
        return max(self.error - self.noise, 0.0)


@dataclass(frozen=True)
class Trial:
    """The fits of all readings.

    Attributes
    ----------
    as_it_is
        Of the scan as it is.
    others
        Of other readings, those of orientation first.
    usual
        Median error of the other orientations of the patterns: what wrong ones amount to.
    """

    as_it_is: Fit
    others: tuple[Fit, ...]
    usual: float

    @property
    def best(self) -> Fit:
        """Of the least error, among all."""
        return min((self.as_it_is, *self.others), key=lambda fit: fit.error)

    @property
    def remedy(self) -> Fit | None:
        """The best reading, if it fits better than the scan as it is."""
        return self.best if fits_better(self.best, self.as_it_is) else None

    @property
    def read_rightly(self) -> bool:
        """Whether the scan as it is fits better than in wrong orientations."""
        return self.ratio <= _RIGHT

    @property
    def ratio(self) -> float:
        """The error of the scan as it is over that of wrong orientations: 1 if it is no better."""
        return self.as_it_is.error / self.usual if self.usual > 0 else 1.0


def fits_better(fit: Fit, other: Fit) -> bool:
    """Whether a reading fits so much better that it is no accident."""
    least = _LEAST_STRETCHED if fit.variant.scale > 1 else _LEAST
    better = _BETTER_SCALED if fit.variant.scale != 1 else _BETTER
    better = _BETTER_TURNED if fit.variant.is_half_turn else better
    return fit.error < least * other.error and fit.beyond_noise < better * other.beyond_noise


class TrialRunner:
    """Where trials of one scan are run.

    Parameters
    ----------
    raw
        The scan.
    probe
        (modes, N, N) complex to start from.
    metric
        Of the refinement.
    counts_per_photon
        See :func:`.noise.counts_per_photon`.
    weights
        (M,) what each pattern counts for: the part is chosen where those that count tell most.
    arrays
        Where to compute.
    should_stop
        Asked before every batch.
    """

    def __init__(
        self,
        raw: RawData,
        probe: NDArray[np.complexfloating],
        metric: str,
        counts_per_photon: float,
        weights: NDArray[np.float64],
        arrays: Arrays,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._raw = raw
        self._metric, self._gain, self._arrays, self._should_stop = (
            metric,
            counts_per_photon,
            arrays,
            should_stop,
        )
        self._positions = np.stack((raw.xcoords, raw.ycoords), -1)
        self._interest = _interest(raw) * (weights >= 0.5)
        self._crop = _middle(raw)
        modes = np.asarray(probe, np.complex64)
        self._probe = _coarser(modes, self._crop)

    def orientations(self, on_progress: Callable[[float], None]) -> Trial:
        """Refine a compact part as it is and in all other orientations.

        Raises
        ------
        Stopped
            If it was asked to stop.
        """
        part = self.part(self.compact(np.arange(len(self._raw))))
        readings = [AS_IT_IS, *orientations()]
        fits = []
        for number, variant in enumerate(readings):
            fits.append(self.fit(part, variant))
            on_progress((number + 1) / len(readings))
        trial = Trial(fits[0], tuple(fits[1:]), median(fit.error for fit in fits[1:]))
        counterpart = trial.best.variant.counterpart
        if trial.remedy is None or counterpart is None:
            return trial
        # the two differ by the orientation of the probe, which a few epochs of refinement make up for in part
        return replace(trial, others=(*trial.others, self.fit(part, counterpart)))

    def scales(self, trial: Trial) -> Trial:
        """The trial with other sizes of a pixel, and with patterns whose zero frequency is in the corner."""
        part = self.part(self.compact(np.arange(len(self._raw))))
        half = self._raw.N // 2
        whole = len(self._probe[0]) == self._raw.N
        readings = [Variant(scale=scale) for scale in _SCALES]
        readings += [Variant(centre=(half, half))] if whole else []
        return replace(trial, others=(*trial.others, *(self.fit(part, one) for one in readings)))

    def compact(self, candidates: NDArray[np.int64], count: int = PATTERNS) -> NDArray[np.int64]:
        """Those of the candidates that lie together where patterns differ most from each other, ascending."""
        positions = self._positions[candidates]
        wanted = min(count, len(candidates))
        around = np.reshape(cKDTree(positions).query(positions, wanted)[1], (len(candidates), wanted))
        centre = int(np.argmax(self._interest[candidates][around].mean(1)))
        return np.sort(candidates[around[centre]])

    def part(self, places: NDArray[np.int64], lag: int = 0) -> RawData:
        """The patterns of these places, if pattern ``k`` belongs to place ``k + lag``."""
        part = self._raw.select(places)
        rows = self._crop
        part.diff3d = np.asarray(self._raw.diff3d[places - lag][:, rows, rows])
        part.bad_pixels = self._raw.bad_pixels[rows, rows]
        part.probeGuess = self._probe
        finer = self._raw.N / part.N
        part.xcoords, part.ycoords = part.xcoords / finer, part.ycoords / finer
        return part

    def fit(self, part: RawData, variant: Variant) -> Fit:
        """Refine a part from a flat object in one reading.

        Raises
        ------
        Stopped
            If it was asked to stop.
        """
        scan = _read(part, variant)
        reach = scan.N / 2.0 + _MARGIN_PX
        shape = (int(scan.ycoords.max() + reach), int(scan.xcoords.max() + reach))
        config = RefinementConfig(epochs=EPOCHS, positions=False, metric=self._metric)
        try:
            refined = refine(
                scan,
                np.ones(shape, np.complex64),
                scan.probeGuess,
                config,
                should_stop=self._should_stop,
                device=self._arrays,
                quiet=True,
                pupil=False,
            )
        except StartError:  # no light where the patterns have it, such as that of a probe beside the beam
            return Fit(variant, math.inf, 0.0, np.full(len(scan), math.inf))
        if refined.stopped:
            raise Stopped
        found = errors_of(
            scan,
            refined.object,
            refined.probe,
            refined.positions,
            self._metric,
            refined.weights,
            self._arrays,
            np.arange(len(scan)),
            self._gain,
        )
        return Fit(variant, found.error, found.noise, found.each)


def _read(part: RawData, variant: Variant) -> RawData:
    """A part of a scan in one reading, its positions where an object around them has them."""
    scan = part.select(slice(None))
    middle = np.array([part.xcoords.mean(), part.ycoords.mean()])
    positions = variant.applied_to_positions(np.stack((part.xcoords, part.ycoords), -1) - middle)
    positions = positions - positions.min(axis=0) + part.N / 2.0 + _MARGIN_PX
    scan.xcoords, scan.ycoords = positions.T
    scan.diff3d = np.ascontiguousarray(variant.applied_to_patterns(part.diff3d))
    scan.bad_pixels = variant.applied_to_patterns(part.bad_pixels)
    return scan


def _interest(raw: RawData) -> NDArray[np.float64]:
    """(M,) how far each pattern is from the mean one: where the object is even, no reading fits better."""
    count = len(raw)
    some = raw.diff3d[np.unique(np.linspace(0, count - 1, min(count, 200)).round().astype(np.int64))]
    mean: NDArray[np.float64] = some.mean(axis=0, dtype=np.float64) * ~raw.bad_pixels
    mean /= max(math.sqrt(float((mean**2).sum())), float(np.finfo(np.float64).tiny))
    along = np.array([float(np.vdot(mean, pattern)) for pattern in raw.diff3d])
    whole = np.array([float((pattern[~raw.bad_pixels] ** 2).sum(dtype=np.float64)) for pattern in raw.diff3d])
    away = np.maximum(whole - along**2, 0.0)
    # a single broken frame must not say where to look
    return np.asarray(np.minimum(away, 3.0 * float(np.median(away)) + 1e-30))


def _middle(raw: RawData) -> slice:
    """Rows, and columns, of the patterns that are enough for a trial."""
    size = raw.N
    if size <= _SIZE:
        return slice(0, size)
    some = raw.diff3d[:: max(1, len(raw) // 100)]
    light = (some.astype(np.float64) ** 2).mean(0) * ~raw.bad_pixels
    while size > _SIZE:
        first = raw.N // 2 - size // 4
        inner = slice(first, first + size // 2)
        if float(light[inner, inner].sum()) < _LIGHT * float(light.sum()):
            break
        size //= 2
    first = raw.N // 2 - size // 2
    return slice(first, first + size)


def _coarser(modes: NDArray[np.complex64], rows: slice) -> NDArray[np.complex64]:
    """A probe as the middle of the patterns knows it, on larger pixels of the object over the same field."""
    if rows == slice(0, modes.shape[-1]):
        return modes
    axes = (-2, -1)
    # the object starts flat, so that it does not matter whether the probe moves by a part of a pixel
    spectrum = np.fft.fftshift(np.fft.fft2(modes, norm="ortho"), axes=axes)[:, rows, rows]
    return np.asarray(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=axes), norm="ortho"), np.complex64)


def alike(trial: Trial, fit: Fit, others: Sequence[Variant]) -> list[Fit]:
    """The fits of these variants that are no more than a little worse."""
    return [
        found
        for found in trial.others
        if found.variant in others and found.error <= _ALIKE * fit.error and found.variant != fit.variant
    ]
