"""A computed probe put right in the plane of its pupil, before it is free pixel by pixel.

What is wrong with a computed probe is mostly a few figures of the optics: its aperture, focus, astigmatism,
coma. An exact raster under a weak object, which tells a probe's pixels from the object's badly, still tells
these. The modulus in the pupil is taken from the patterns: what fits all of them best is very nearly the far
field of the probe. Its phase is corrected by a polynomial, whose coefficients learn together with an object
of their own, on the part of the scan where the patterns differ most. Each of the two is kept only if an
object that starts anew explains the patterns better with it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from .arrays import Array, Arrays
from .config import RefinementConfig
from .few_counts import is_dim
from .model import Gradients, Iterate, ScanModel, chequerboard
from .noise import PHOTONS, noise_of_root, photon_unit
from .start import Window
from .trials import CLEARLY_BETTER, Learning, Stopped, Trials, Watch

_PIXELS = 1 << 20  # of the patterns of a trial
_NEIGHBOURS = 12
_LEAST_LIGHT = 1e-3  # of the strongest in the pupil: with less, a probe's phase there is chance
_BETTER = 0.99  # of the error, for another modulus

_FOCUS_STEP, _FARTHEST_FOCUS = 1.5, 9.0  # rad of defocus at the rim
_PER_TERM = 10.0  # times the noise of a pixel, for each coefficient of the phase
_RATE = 0.15  # rad


def with_pupil_corrected(
    raw: RawData,
    start: NDArray[np.complex64],
    probe: Array,
    config: RefinementConfig,
    arrays: Arrays,
    watch: Watch,
) -> Array | None:
    """A probe put right in its pupil.

    Parameters
    ----------
    raw
        The scan, without frames that lack the beam, and without flashes: they would spoil a mean.
    start
        (H, W) object to start trials from.
    probe
        (modes, N, N) as :class:`.model.Iterate` has it, in scale.
    config, arrays
        As for the refinement.
    watch
        Who watches the trials.

    Returns
    -------
    Array or None
        None if nothing is gained, or if it was asked to stop.
    """
    part = raw.select(where_patterns_differ(raw))
    try:
        return _Bench(part, start, probe, config, arrays, watch).corrected()
    except Stopped:
        return None


def patterns_to_try(raw: RawData) -> int:
    """How many patterns trials are made on: all, or 2^20 pixels of them."""
    return min(_PIXELS // raw.N**2, raw.n_patterns)


def where_patterns_differ(raw: RawData) -> NDArray[np.int64]:
    """Those to try: patterns that lie together, around where they differ from the mean one most."""
    wanted = patterns_to_try(raw)
    if wanted == raw.n_patterns:
        return np.arange(raw.n_patterns)
    mean = raw.diff3d.mean(0)
    differences = np.array([float(((pattern - mean) ** 2).sum()) for pattern in raw.diff3d])
    where = np.stack((raw.xcoords, raw.ycoords), -1)
    tree = cKDTree(where)
    # a few broken patterns are no feature: medians
    around = np.median(differences[tree.query(where, _NEIGHBOURS)[1]], axis=1)
    return np.sort(tree.query(where[int(around.argmax())], wanted)[1]).astype(np.int64)


class _Bench:
    """Trials of probes on one part of a scan."""

    def __init__(
        self,
        raw: RawData,
        start: NDArray[np.complex64],
        probe: Array,
        config: RefinementConfig,
        arrays: Arrays,
        watch: Watch,
    ) -> None:
        self._arrays = arrays
        self._model = ScanModel(raw, arrays, config.error_metric)
        window = Window((start.shape[0], start.shape[1]), raw, 0.0)
        positions = window.inside(np.stack((raw.xcoords, raw.ycoords), -1))
        self._start = Iterate(arrays.put(window.cut(start)), probe, positions)
        self._board = chequerboard(raw.N)
        self._order = neighbourhood_order(self._start.positions)
        self._spectrum = self._to_pupil(probe)
        mean = self._model.mean_counts(np.arange(raw.n_patterns))
        per_photon = photon_unit(raw.diff3d, np.arange(raw.n_patterns), raw.bad_pixels)
        self._trials = Trials(self._model, arrays, config.error_metric, self._order, mean, per_photon, watch)
        # a modulus of the mean pattern's fits the noise of that, which is most of a gain where counts are few
        sums = np.minimum(mean * raw.n_patterns, PHOTONS * per_photon)
        self._dim = config.error_metric == "poisson" and is_dim(mean / per_photon)
        self._of_noise = float(sums.sum()) / raw.n_patterns if self._dim else 0.0
        self._mean = scipy.fft.ifftshift(mean)
        # what a modulus that is the same for all patterns fits best
        root = raw.diff3d.mean(0, dtype=np.float64) ** 2
        best = mean if config.error_metric == "poisson" else np.where(raw.bad_pixels, 0.0, root)
        self._best = scipy.fft.ifftshift(best)
        self._good = scipy.fft.ifftshift(~raw.bad_pixels)
        self._terms = _aberrations(self._mean)

    def corrected(self) -> Array | None:
        """With the patterns' modulus, and with another phase, as far as that is better; None if it is not."""
        spectrum, error = self._spectrum, self._error(self._spectrum)
        given = error
        if not math.isfinite(given):
            return None
        other = self._with_modulus(spectrum)
        found = self._error(other)
        if found < min(_BETTER * error, error - self._of_noise) and self._clearly(found, error):
            spectrum, error = other, found
        base = spectrum
        focus, error_of_focus = self._focus(base, error)
        fitted = self._fitted(base, focus)
        candidates = ((focus, error_of_focus), (fitted, self._error(self._with_phase(base, fitted))))
        for coefficients, found in candidates:
            noise = min(noise_of_root(self._mean, found), self._trials.photons)
            least = _PER_TERM * noise * len(self._terms) / len(self._order)
            if self._dim:  # steps of the trials make more noise in the error than coefficients do
                least = max(least, (1.0 - _BETTER) * error)
            # where the modulus was wrong, that the phase is, too, is no surprise
            if found < error - least and (error < given or self._clearly(found, error)):
                spectrum, error = self._with_phase(base, coefficients), found
        return self._to_sample(spectrum) if error < given else None

    def _clearly(self, found: float, error: float) -> bool:
        return self._trials.is_mostly_noise(error) or found < CLEARLY_BETTER * error

    def _with_modulus(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        power = (np.abs(spectrum) ** 2).sum(0)
        ratio = np.sqrt(self._best / np.maximum(power, _LEAST_LIGHT * power.max()))
        ratio = np.where(self._good, ratio, 1.0)
        # the probe's power is a matter of the whole scan and of its object, not of the patterns here
        ratio *= np.sqrt(power.sum() / (power * ratio**2).sum())
        return np.asarray(spectrum * ratio, np.complex64)

    def _with_phase(
        self, spectrum: NDArray[np.complex64], coefficients: NDArray[np.float64]
    ) -> NDArray[np.complex64]:
        phase = np.tensordot(coefficients, self._terms, 1)
        return np.asarray(spectrum * np.exp(1j * phase), np.complex64)

    def _error(self, spectrum: NDArray[np.complex64]) -> float:
        """Mean error of a pattern in the last epoch of a short trial."""
        return self._trials.error(replace(self._start, probe=self._to_sample(spectrum)))

    def _focus(self, spectrum: NDArray[np.complex64], error: float) -> tuple[NDArray[np.float64], float]:
        """Coefficients of the defocus with the least error, downhill from none, and that error.

        Far from noise they are zero.
        """
        best = np.zeros(len(self._terms))
        if not self._trials.is_mostly_noise(error):
            return best, error
        errors = {0.0: error}

        def error_at(defocus: float) -> float:
            if defocus not in errors:
                phase = self._with_phase(spectrum, np.eye(1, len(self._terms))[0] * defocus)
                errors[defocus] = self._error(phase)
            return errors[defocus]

        for step in (_FOCUS_STEP, _FOCUS_STEP / 2):
            while abs(best[0]) < _FARTHEST_FOCUS:
                other = min((best[0] - step, best[0] + step), key=error_at)
                if error_at(other) >= error_at(float(best[0])):
                    break
                best[0] = other
        return best, errors[float(best[0])]

    def _fitted(self, spectrum: NDArray[np.complex64], start: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients that have learnt from a start."""
        coefficients = start.copy()

        def slope(iterate: Iterate, found: Gradients, _: NDArray[np.int64]) -> NDArray[np.float64]:
            pupil, of_pupil = self._to_pupil(iterate.probe), self._to_pupil(found.probe)
            turn = (np.conj(pupil) * of_pupil).sum(0).imag
            return np.asarray((self._terms * turn).sum((1, 2)))

        def apply(iterate: Iterate) -> None:
            iterate.probe = self._to_sample(self._with_phase(spectrum, coefficients))

        begin = replace(self._start, probe=self._to_sample(self._with_phase(spectrum, coefficients)))
        learning = Learning(coefficients, _RATE, probe=True, positions=False, slope=slope, apply=apply)
        self._trials.error(begin, learning)
        return coefficients

    def _to_pupil(self, probe: Array) -> NDArray[np.complex64]:
        waves = self._arrays.get(probe) * self._board
        return np.asarray(scipy.fft.fft2(waves, norm="ortho"), np.complex64)

    def _to_sample(self, spectrum: NDArray[np.complex64]) -> Array:
        waves = scipy.fft.ifft2(spectrum, norm="ortho") * self._board
        return self._arrays.put(waves.astype(np.complex64))


def _aberrations(mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """(8, N, N): defocus, astigmatism, coma, trefoil and spherical aberration, zero frequency first.

    They are of the order of 1 at the rim of the pupil, an even disk of which would have the second moment
    of the mean pattern. A linear phase is left out: it moves the probe, and the object can move as well.
    """
    frequency = scipy.fft.fftfreq(len(mean))
    squared = frequency[:, None] ** 2 + frequency**2
    rim = math.sqrt(2.0 * float((squared * mean).sum() / mean.sum()))
    x, y = np.broadcast_arrays(frequency[None, :] / rim, frequency[:, None] / rim)
    r2 = x**2 + y**2
    terms = (r2, x**2 - y**2, 2 * x * y, x * r2, y * r2, x**3 - 3 * x * y**2, 3 * x**2 * y - y**3, r2**2)
    return np.stack(terms).astype(np.float32)
