"""The large-scale phase of an object, corrected by where its patterns lie on the detector.

A gradient of the object's phase under the probe moves a pattern as a whole. A network that sees a few
patterns at a time gets that gradient nearly right, and what it lacks adds up from one end of a scan to the
other. So the patterns that an object gives are compared with the measured ones: by how much each is to be
moved is the gradient of the phase that is missing there, and one smooth phase with these gradients is found.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import RectBivariateSpline
from scipy.sparse.linalg import LinearOperator, lsmr

from .grouping import nearest_to_grid
from .interpolation import CHUNK, PatchCutter
from .probe import probe_width

logger = logging.getLogger(__name__)

_PITCH = 0.2
"""Distance of the patterns that are looked at, in widths of the probe: closer ones hardly say more."""

_FINEST = 0.5
"""Where the phase fades out, in cycles per width of the probe: finer things, patterns tell by their shape."""

_NODES = 8
"""Of the grid that the phase is found on, per width of the probe."""

_CALM = 0.3
"""How much the phase is held back, relative to what an even gradient is worth: noise makes waves."""

_PASSES = 6
_WORTH = 0.003
"""Part of the misfit that a pass has to take off to be kept, and to be followed by another."""

_EXPLAINED = 0.5
"""Of an even object's misfit, the most that this one may have: phases of what is farther off mean nothing."""

_ITERATIONS, _PRECISION = 60, 1e-3
_MOST_PIXELS = 1 << 18  # of waves at a time, 2 MB
_DARK = 1e-6  # of a pattern's sensitivity along one direction, relative to the other
_FAINT = 1e-6  # of the modelled intensity's mean, so that its root has a derivative
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class _Displaced:
    """What patterns say of an object: its misfit, and (K, 2) gradients [x, y] that it lacks, rad a pixel."""

    misfit: float
    gradients: NDArray[np.float64]
    seen: NDArray[np.bool_]


def with_phase_of_patterns(
    object_: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    amplitude: NDArray[np.float32],
    coords: NDArray[np.float64],
    bad_pixels: NDArray[np.bool_],
    members: NDArray[np.int64] | None = None,
) -> NDArray[np.complex64]:
    """The object times a smooth phase with which its patterns lie where the measured ones do.

    An object that leaves more than half of what an even one leaves is returned as it is: it is far off, and
    phases that fit better mean nothing.
    The phase has no details finer than about two widths of the probe, and no pass that finds one is kept that
    does not make the misfit of the patterns, ``Σ (√n - s √λ)² / Σ n``, smaller.

    Parameters
    ----------
    object_
        (H, W) complex64.
    probe
        (modes, N, N) complex64, any scale.
    amplitude
        (M, N, N) float32, measured; any scale, zero frequency at (N/2, N/2). May be mapped from a file.
    coords
        (M, 2) positions [x, y], pixels of the object, inside of it.
    bad_pixels
        (N, N) bool, pixels that were not measured.
    members
        (K,) numbers of the patterns to look at; None: all.

    Returns
    -------
    ndarray
        (H, W) complex64: ``object_`` itself where nothing was gained.

    Examples
    --------
    >>> weak = with_phase_of_patterns(found, scan.probeGuess, scan.diff3d, coords, scan.bad_pixels)
    >>> weak.shape == found.shape
    True
    """
    modes = np.asarray(probe, np.complex64)
    members = np.arange(len(coords)) if members is None else members
    across = probe_width(modes)
    chosen = members[nearest_to_grid(coords[members], _PITCH * across)]
    x, y = coords[chosen].T
    patterns = _Patterns(modes, amplitude, chosen, x, y, fft.ifftshift(~bad_pixels).astype(np.float32))
    found, state = object_, patterns.displaced_from(object_)
    first = state.misfit
    if not first <= _EXPLAINED * patterns.displaced_from(np.ones_like(object_)).misfit:
        return object_
    solver = PhaseEquations(modes, x, y, object_.shape, across)
    for _ in range(_PASSES):
        if not state.seen.any():
            break
        trial = solver.with_gradients(state.gradients, state.seen).added_to(found)
        then = patterns.displaced_from(trial)
        if not then.misfit < (1 - _WORTH) * state.misfit:
            break
        found, state = trial, then
    if found is not object_:
        logger.info(
            "The phase over more than a group's width was corrected by where patterns lie: of a misfit of "
            "%.3g, %.3g is left.",
            first,
            state.misfit,
        )
    return found


@dataclass(frozen=True, eq=False)
class _Patterns:
    """Measured patterns to compare an object's with, as for :func:`with_phase_of_patterns`.

    ``chosen`` are the numbers of those that are looked at, ``x`` and ``y`` their positions, (K,); ``good``
    is 1 where the detector has measured, zero frequency at (0, 0).
    """

    probe: NDArray[np.complex64]
    amplitude: NDArray[np.float32]
    chosen: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    good: NDArray[np.float32]

    def displaced_from(self, image: NDArray[np.complex64]) -> _Displaced:
        """Gradients by least squares of measured minus modelled amplitudes, for each pattern."""
        size = self.probe.shape[-1]
        axis = (1j * (np.arange(size) - (size - 1) / 2)).astype(np.complex64)
        cut = PatchCutter(image, size, order=3)
        gradients, seen = np.zeros((len(self.chosen), 2)), np.zeros(len(self.chosen), bool)
        misfit = power = 0.0
        # a dozen arrays are as large as the waves of a part
        count = max(1, min(CHUNK, _MOST_PIXELS // self.probe.size))
        for start in range(0, len(self.chosen), count):
            part = slice(start, start + count)
            measured = fft.ifftshift(np.asarray(self.amplitude[self.chosen[part]]), axes=(-2, -1)) * self.good
            waves = self.probe * cut(self.x[part], self.y[part])[:, None]
            spectra = fft.fft2(waves)
            intensity = _inner(spectra, spectra)
            modelled = np.sqrt(intensity + _FAINT * intensity.mean((-2, -1), keepdims=True) + _TINY)
            by_x = self.good * _inner(spectra, fft.fft2(axis * waves)) / modelled
            by_y = self.good * _inner(spectra, fft.fft2(axis[:, None] * waves)) / modelled
            modelled *= self.good
            # one factor a pattern: a beam that fluctuates moves none
            scale = _sum(measured * modelled) / np.maximum(_sum(modelled * modelled), _TINY)
            rest = measured - scale[:, None, None] * modelled
            misfit += float(_sum(rest * rest).sum())
            power += float(_sum(measured * measured).sum())
            xx, xy, yy = _sum(by_x * by_x), _sum(by_x * by_y), _sum(by_y * by_y)
            determinant = xx * yy - xy * xy
            told = (scale > 0) & (determinant > _DARK * (xx + yy) ** 2)
            along_x, along_y = _sum(by_x * rest), _sum(by_y * rest)
            for column, numerator in enumerate((yy * along_x - xy * along_y, xx * along_y - xy * along_x)):
                np.divide(numerator, determinant * scale, out=gradients[part, column], where=told)
            seen[part] = told
        return _Displaced(misfit / max(power, _TINY), gradients, seen)


def _inner(one: NDArray[np.complex64], other: NDArray[np.complex64]) -> NDArray[np.float32]:
    """``Σ_modes Re(conj(a) b)``."""
    product: NDArray[np.float32] = (one.real * other.real + one.imag * other.imag).sum(1)
    return product


def _sum(values: NDArray[np.float32]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = values.sum((-2, -1), dtype=np.float64)
    return total


@dataclass(frozen=True, eq=False)
class _SmoothPhase:
    """A phase, rad, as a function of row and column of the object."""

    spline: RectBivariateSpline

    def added_to(self, image: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """(H, W) with this phase beside its own; a few rows at a time, since objects may be large."""
        turned = np.empty_like(image)
        height, across = image.shape
        for start in range(0, height, CHUNK):
            rows = np.arange(start, min(start + CHUNK, height))
            turned[rows] = image[rows] * np.exp(1j * self.spline(rows, np.arange(across)))
        return turned


class PhaseEquations:
    """Finds the smooth phase whose gradients, averaged under the probe, are given ones.

    The unknowns are a phase times its wave number: gradients of all wavelengths are then as likely, and a
    phase is the larger the longer its waves. An even gradient is taken off before, and added as it is.

    Parameters
    ----------
    probe
        (modes, N, N).
    x, y
        (K,) positions of the patterns, pixels of the object.
    shape
        (H, W) of the object.
    across
        The probe's width, pixels.
    """

    def __init__(
        self,
        probe: NDArray[np.complex64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        shape: tuple[int, int],
        across: float,
    ) -> None:
        size, self._centre = probe.shape[-1], (x.mean(), y.mean())
        self._pitch = max(1.0, across / _NODES)
        # waves come back on the other side of the grid: by then they have to be off the scan
        self._border = size / 2
        nodes = [fft.next_fast_len(math.ceil((n + size) / self._pitch) + 1, real=True) for n in shape]
        self._nodes = (nodes[0], nodes[1])
        self._row, self._column = (
            np.rint((place + self._border) / self._pitch).astype(np.int64) for place in (y, x)
        )
        rows = fft.fftfreq(nodes[0], self._pitch)  # cycles per pixel
        columns = fft.rfftfreq(nodes[1], self._pitch)
        frequency = np.hypot(rows[:, None], columns)
        smooth = np.exp(-0.5 * (frequency * across / _FINEST) ** 2)
        frequency[0, 0] = np.inf
        self._to_phase = smooth / (2 * np.pi * frequency)
        light = (np.abs(probe.astype(np.complex128)) ** 2).sum(0)
        inside = np.arange(size) - (size - 1) / 2
        # Σ light e^(-2πi q r), the average under the probe
        under = (
            np.exp(-2j * np.pi * rows[:, None] * inside)
            @ (light / light.sum())
            @ np.exp(-2j * np.pi * columns * inside[:, None])
        ).conj()
        self._under = under
        self._gradients = (
            2j * np.pi * columns * under * self._to_phase,
            2j * np.pi * rows[:, None] * under * self._to_phase,
        )

    def with_gradients(self, gradients: NDArray[np.float64], seen: NDArray[np.bool_]) -> _SmoothPhase:
        """From (K, 2) gradients [x, y], rad a pixel, of those patterns that are ``seen``."""
        worth = self._worth(seen)
        even = np.average(gradients[seen], axis=0, weights=worth[seen])
        rest = np.concatenate(list((worth[:, None] * (gradients - even)).T))
        unknowns = lsmr(
            self.operator(seen), rest, damp=_CALM, atol=_PRECISION, btol=_PRECISION, maxiter=_ITERATIONS
        )[0]
        phase = fft.irfft2(fft.rfft2(unknowns.reshape(self._nodes)) * self._to_phase, self._nodes)
        rows, columns = (self._pitch * np.arange(n) - self._border for n in self._nodes)
        phase += even[0] * (columns - self._centre[0]) + even[1] * (rows - self._centre[1])[:, None]
        return _SmoothPhase(RectBivariateSpline(rows, columns, phase))

    def operator(self, seen: NDArray[np.bool_]) -> LinearOperator:
        """From the unknowns to all gradients along x, and then y, times what each is worth, and its adjoint.

        ``seen`` is (K,): the others' gradients are worth nothing.
        """
        worth = self._worth(seen)

        def applied(unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
            spectrum = fft.rfft2(unknowns.reshape(self._nodes))
            return np.concatenate([worth * self._at(spectrum * along) for along in self._gradients])

        def adjoint(values: NDArray[np.float64]) -> NDArray[np.float64]:
            parts = np.split(values, 2)
            spectrum = sum(
                self._spread(worth * part) * along.conj()
                for part, along in zip(parts, self._gradients, strict=True)
            )
            back: NDArray[np.float64] = fft.irfft2(spectrum, self._nodes)
            return back.ravel()

        return LinearOperator(
            (2 * len(worth), math.prod(self._nodes)), matvec=applied, rmatvec=adjoint, dtype=np.float64
        )

    def _worth(self, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(K,): a crowd of patterns says no more of the phase there than one of as many photons."""
        crowd = np.abs(self._under) ** 2
        density = self._at(self._spread(seen.astype(np.float64)) * crowd)
        return np.where(seen, 1 / np.sqrt(np.maximum(density, _TINY)), 0.0)

    def _spread(self, values: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Spectrum of (K,) values at the patterns' places."""
        grid = np.bincount(
            self._row * self._nodes[1] + self._column, values, minlength=math.prod(self._nodes)
        ).reshape(self._nodes)
        spectrum: NDArray[np.complex128] = fft.rfft2(grid)
        return spectrum

    def _at(self, spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        """(K,) values at the patterns' places, of a spectrum."""
        field = fft.irfft2(spectrum, self._nodes)
        values: NDArray[np.float64] = field[self._row, self._column]
        return values
