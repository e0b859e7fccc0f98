"""Trials: a part of a scan is refined for a few epochs, as it is and in other readings of the scan.

A reading is a way to interpret the data: an orientation of the patterns, a size of the pixels, and so on.
With a wrong orientation of patterns or positions, overlapping patterns contradict each other, and a
refinement can hardly do better than without positions. The seven other orientations of the patterns therefore
also show how large the error of a wrong reading is, and the scan as it is has to be clearly better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data.large_arrays import each
from ..data.raw import RawData
from ..refinement.arrays import Arrays
from ..refinement.config import RefinementConfig
from ..refinement.solver import refine
from ..refinement.stages import Stages
from ..refinement.start import StartError
from .bounds import errors_of
from .variants import AS_IT_IS, Variant, orientations

PATTERNS = 100
EPOCHS = 4
_SIZE = 64
_LIGHT = 0.9
"""The trial uses only the middle of the patterns if that holds at least this part of their light."""

_BETTER = 0.6
"""A reading fits better if its error beyond noise is less than this part of that of the scan as it is."""

_BETTER_SCALED = 0.35
"""The same for a reading with another size of the pixels.

It is stricter, since in a small part of a scan a probe that is out of focus looks like another size.
"""

_BETTER_TURNED = 0.4
"""The same for a half turn.

It is stricter, since with a probe that equals its own conjugate the two readings differ by chance alone.
"""

_LEAST = 0.95
"""The whole error, noise included, must also be less than this part of that of the scan as it is."""

_LEAST_STRETCHED = 0.7
"""The same for a reading in which the patterns overlap less, since then anything fits better."""

_ALIKE = 1.5
"""Readings whose error is no more than this multiple of the least one are reported as equivalent."""

_RIGHT = 0.94
"""A scan is read rightly if its error in the trial is at most this part of that of wrong orientations."""

TIMES = 3.0
"""If the error of a result is more than this multiple of a short trial's, refining it would improve it."""

_MARGIN_PX = 2.0
_SCALES = (0.5, 0.6, 0.72, 0.85, 1.18, 1.4, 1.65, 2.0)


class Stopped(Exception):
    """The trial was asked to stop."""


@dataclass(frozen=True)
class Fit:
    """How well one reading of the scan explains the part that the trial refines.

    Attributes
    ----------
    variant
        The reading.
    error, noise
        The error divided by the counts, and the error that noise alone would leave, in the same unit.
    each
        (M,) the error of each pattern, divided by the mean counts of a pattern.
    """

    variant: Variant
    error: float
    noise: float
    each: NDArray[np.float64]

    @property
    def beyond_noise(self) -> float:
        """The error less that of noise; at least 0, since a fit may take up a part of the noise."""
        return max(self.error - self.noise, 0.0)


@dataclass(frozen=True)
class Trial:
    """The fits of all readings.

    Attributes
    ----------
    as_it_is
        The fit of the scan as it is.
    others
        The fits of other readings, those of other orientations first.
    usual
        The median error of the other orientations of the patterns, which is what a wrong reading leaves.
    """

    as_it_is: Fit
    others: tuple[Fit, ...]
    usual: float

    @property
    def best(self) -> Fit:
        """The fit with the least error of all."""
        return min((self.as_it_is, *self.others), key=lambda fit: fit.error)

    @property
    def remedy(self) -> Fit | None:
        """The best fit, if its reading fits better than the scan as it is; else None."""
        return self.best if fits_better(self.best, self.as_it_is) else None

    @property
    def read_rightly(self) -> bool:
        """Whether the scan as it is fits better than in wrong orientations."""
        return self.ratio <= _RIGHT

    @property
    def ratio(self) -> float:
        """The error of the scan as it is, divided by that of wrong orientations: 1 if it is no better."""
        return self.as_it_is.error / self.usual if self.usual > 0 else 1.0


def fits_better(fit: Fit, other: Fit) -> bool:
    """Whether a reading fits so much better than another that this is not by chance."""
    least = _LEAST_STRETCHED if fit.variant.scale > 1 else _LEAST
    better = _BETTER_SCALED if fit.variant.scale != 1 else _BETTER
    better = _BETTER_TURNED if fit.variant.is_half_turn else better
    return fit.error < least * other.error and fit.beyond_noise < better * other.beyond_noise


class TrialRunner:
    """Runs the trials of one scan.

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
        (M,) weight of each pattern. The part is chosen where the patterns of weight tell most.
    arrays
        The device to compute on.
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
        # the two differ by the orientation of the probe, of which a short refinement corrects a part
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
        """``count`` candidates that lie together, where patterns differ most from each other; ascending."""
        positions = self._positions[candidates]
        wanted = min(count, len(candidates))
        around = np.reshape(cKDTree(positions).query(positions, wanted)[1], (len(candidates), wanted))
        centre = int(np.argmax(self._interest[candidates][around].mean(1)))
        return np.sort(candidates[around[centre]])

    def part(self, places: NDArray[np.int64], lag: int = 0) -> RawData:
        """The patterns at these places of the scan, where pattern ``k`` belongs to place ``k + lag``."""
        part = self._raw.select(places)
        rows = self._crop
        part.diff3d = np.asarray(self._raw.diff3d[places - lag][:, rows, rows])
        part.bad_pixels = self._raw.bad_pixels[rows, rows]
        part.probeGuess = self._probe
        finer = self._raw.N / part.N
        part.xcoords, part.ycoords = part.xcoords / finer, part.ycoords / finer
        return part

    def fit(self, part: RawData, variant: Variant) -> Fit:
        """Refine a part in one reading, from a flat object.

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
                stages=~(Stages.PUPIL | Stages.VARIATION),
            )
        except StartError:  # the probe has no light where the patterns have it, as one beside the beam
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
            refined.light,
        )
        return Fit(variant, found.error, found.noise, found.each)


def _read(part: RawData, variant: Variant) -> RawData:
    """A part of a scan in one reading, its positions in the pixels of an object that just holds them."""
    scan = part.select(slice(None))
    middle = np.array([part.xcoords.mean(), part.ycoords.mean()])
    positions = variant.applied_to_positions(np.stack((part.xcoords, part.ycoords), -1) - middle)
    positions = positions - positions.min(axis=0) + part.N / 2.0 + _MARGIN_PX
    scan.xcoords, scan.ycoords = positions.T
    scan.diff3d = np.ascontiguousarray(variant.applied_to_patterns(part.diff3d))
    scan.bad_pixels = variant.applied_to_patterns(part.bad_pixels)
    return scan


def _interest(raw: RawData) -> NDArray[np.float64]:
    """(M,) how far each pattern is from the mean one. Where the object is even, all readings fit alike."""
    count = len(raw)
    some = np.unique(np.linspace(0, count - 1, min(count, 200)).round().astype(np.int64))
    mean = np.zeros((raw.N, raw.N))
    for pattern in each(raw.diff3d, some):
        mean += pattern
    mean *= ~raw.bad_pixels
    mean /= max(math.sqrt(float((mean**2).sum())), float(np.finfo(np.float64).tiny))
    along = np.array([float(np.vdot(mean, pattern)) for pattern in raw.diff3d])
    whole = np.array([float((pattern[~raw.bad_pixels] ** 2).sum(dtype=np.float64)) for pattern in raw.diff3d])
    away = np.maximum(whole - along**2, 0.0)
    # a single broken frame must not decide where the part is
    return np.asarray(np.minimum(away, 3.0 * float(np.median(away)) + 1e-30))


def _middle(raw: RawData) -> slice:
    """The rows, and likewise the columns, of the middle of the patterns that is enough for a trial."""
    size = raw.N
    if size <= _SIZE:
        return slice(0, size)
    light = np.zeros((size, size))
    for pattern in each(raw.diff3d, np.arange(0, len(raw), max(1, len(raw) // 100))):
        light += np.square(pattern, dtype=np.float64)
    light *= ~raw.bad_pixels
    while size > _SIZE:
        first = raw.N // 2 - size // 4
        inner = slice(first, first + size // 2)
        if float(light[inner, inner].sum()) < _LIGHT * float(light.sum()):
            break
        size //= 2
    first = raw.N // 2 - size // 2
    return slice(first, first + size)


def _coarser(modes: NDArray[np.complex64], rows: slice) -> NDArray[np.complex64]:
    """The probe that goes with the middle of the patterns: the same field of view, larger object pixels."""
    if rows == slice(0, modes.shape[-1]):
        return modes
    axes = (-2, -1)
    # a shift of the probe by a part of a pixel does not matter, since the object starts flat
    spectrum = np.fft.fftshift(np.fft.fft2(modes, norm="ortho"), axes=axes)[:, rows, rows]
    return np.asarray(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=axes), norm="ortho"), np.complex64)


def alike(trial: Trial, fit: Fit, others: Sequence[Variant]) -> list[Fit]:
    """The fits of these variants whose error is at most :data:`_ALIKE` times that of ``fit``."""
    return [
        found
        for found in trial.others
        if found.variant in others and found.error <= _ALIKE * fit.error and found.variant != fit.variant
    ]
