"""A computed probe put right in the plane of its pupil, before it is free pixel by pixel.

What is wrong with a computed probe is mostly a few figures of the optics: its aperture, focus, astigmatism,
coma. An exact raster under a weak object, which tells a probe's pixels from the object's badly, still tells
these. The modulus in the pupil is taken from the patterns: what fits all of them best is very nearly the far
field of the probe. Its phase is corrected by a polynomial, whose coefficients learn together with an object
of their own, on the part of the scan where the patterns differ most. Each of the two is kept only if an
object that starts anew explains the patterns better with it.

A probe on the other side of the focus is as far from the right one as no small change leads: its complex
conjugate is tried where the probe as given explains little. Positions whose signs are both wrong look the
same, with an object that is turned by 180 degrees and conjugated; patterns do not tell which of the two it
is. So whoever takes the conjugate has to say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from .arrays import Array, Arrays
from .coarse import CoarseScan
from .config import RefinementConfig
from .few_counts import is_dim
from .gradients import Gradients
from .iterate import Iterate
from .model import ScanModel
from .noise import PHOTONS, noise_of_root
from .start import Window
from .trials import CLEARLY_BETTER, Course, Learning, Stopped, Trials, Watch

_PIXELS = 1 << 20  # of the patterns of a trial
_FEWEST = 16  # patterns of one, however large they are: fewer hardly overlap
_NEIGHBOURS = 12
_LEAST_LIGHT = 1e-3  # of the strongest in the pupil: with less, a probe's phase there is chance
_BETTER = 0.99  # of the error, for another modulus
_CONJUGATE = 0.6
"""Of the error, for the conjugate of the probe. On the other side of the focus it left a tenth; of probes
that were wrong in other ways, it always left more than they did."""
_SAME = 0.9
"""Overlap of a probe with its conjugate from which on the two are one, and chance would choose."""

_FOCUS_STEP, _FARTHEST_FOCUS = 1.5, 9.0  # rad of defocus at the rim
_PER_TERM = 10.0  # times the noise of a pixel, for each coefficient of the phase
_RATE = 0.15  # rad
_IDLE = 0.1
"""rad, root of the squares' sum: a phase that has come no farther when a trial asks is left to the pixels.
Right probes came to 0.1 at most, those with the wrong optics to 0.35 and more."""


@dataclass(frozen=True)
class Corrected:
    """A probe put right in its pupil, (modes, N, N) as :class:`.iterate.Iterate` has it.

    ``conjugated`` says whether it came of the complex conjugate of the one that was given.
    """

    probe: Array
    conjugated: bool = False


def with_pupil_corrected(
    raw: RawData,
    start: NDArray[np.complex64],
    probe: Array,
    config: RefinementConfig,
    arrays: Arrays,
    watch: Watch,
    per_photon: float,
) -> Corrected | None:
    """A probe put right in its pupil.

    Parameters
    ----------
    raw
        The scan, without frames that lack the beam, and without flashes: they would spoil a mean.
    start
        (H, W) object to start trials from.
    probe
        (modes, N, N) as :class:`.iterate.Iterate` has it, in scale.
    config, arrays
        As for the refinement.
    watch
        Who watches the trials.
    per_photon
        Counts of one photon, see :func:`.noise.photon_unit`.

    Returns
    -------
    Corrected or None
        None if nothing is gained, or if it was asked to stop.
    """
    part = raw.select(where_patterns_differ(raw))
    try:
        return _Bench(part, start, probe, config, arrays, watch, per_photon).corrected()
    except Stopped:
        return None


def patterns_to_try(raw: RawData, pixels: int = _PIXELS) -> int:
    """How many patterns trials are made on: all, or so many pixels of them, but no fewer than 16."""
    return min(max(pixels // raw.N**2, _FEWEST), raw.n_patterns)


def sound_part(raw: RawData, sound: NDArray[np.int64]) -> RawData:
    """The scan without patterns that would spoil a mean: itself if all are sound, since others are copied."""
    return raw if len(sound) == raw.n_patterns else raw.select(sound)


def where_patterns_differ(raw: RawData, pixels: int = _PIXELS) -> NDArray[np.int64]:
    """Those to try: patterns that lie together, around where they differ from the mean one most."""
    wanted = patterns_to_try(raw, pixels)
    if wanted == raw.n_patterns:
        return np.arange(raw.n_patterns)
    mean = np.zeros(raw.diff3d.shape[1:], np.float32)
    for pattern in raw.diff3d:  # one after the other: all of them need not be in memory
        mean += pattern
    mean /= np.float32(raw.n_patterns)
    differences = np.array([float(((pattern - mean) ** 2).sum()) for pattern in raw.diff3d])
    where = np.stack((raw.xcoords, raw.ycoords), -1)
    tree = cKDTree(where)
    # a few broken patterns are no feature: medians
    around = np.median(differences[tree.query(where, _NEIGHBOURS)[1]], axis=1)
    return np.sort(tree.query(where[int(around.argmax())], wanted)[1]).astype(np.int64)


class _Bench:
    """Trials of probes on one part of a scan.

    Spectra are those of whole patterns, zero frequency at (N/2, N/2).
    """

    def __init__(
        self,
        raw: RawData,
        start: NDArray[np.complex64],
        probe: Array,
        config: RefinementConfig,
        arrays: Arrays,
        watch: Watch,
        per_photon: float,
    ) -> None:
        self._arrays, self._config, self._watch = arrays, config, watch
        self._raw, self._object, self._per_photon = raw, start, per_photon
        self._spectrum = self._to_pupil(probe)
        model = ScanModel(raw, arrays, config.error_metric)
        self._whole_mean = mean = model.mean_counts(np.arange(raw.n_patterns))
        # a modulus of the mean pattern's fits the noise of that, which is most of a gain where counts are few
        sums = np.minimum(mean * raw.n_patterns, PHOTONS * per_photon)
        self._dim = config.error_metric == "poisson" and is_dim(mean / per_photon)
        self._of_noise = float(sums.sum()) / raw.n_patterns if self._dim else 0.0
        # what a modulus that is the same for all patterns fits best
        root = raw.diff3d.mean(0, dtype=np.float64) ** 2
        self._best = mean if config.error_metric == "poisson" else np.where(raw.bad_pixels, 0.0, root)
        self._good = ~raw.bad_pixels
        self._terms = _aberrations(mean)
        self._look_at(CoarseScan(raw, arrays, per_photon))

    def _look_at(self, coarse: CoarseScan) -> None:
        """Trials from now on are on that much of the patterns."""
        arrays, metric, tried = self._arrays, self._config.error_metric, coarse.raw
        object_ = coarse.object(self._object)
        window = Window((object_.shape[0], object_.shape[1]), tried, 0.0)
        positions = window.inside(np.stack((tried.xcoords, tried.ycoords), -1))
        self._coarse = coarse
        self._canvas, self._positions = arrays.put(window.cut(object_)), positions
        self._order = neighbourhood_order(positions)
        self._mean = coarse.middle(self._whole_mean)
        model = ScanModel(tried, arrays, metric)
        self._trials = Trials(model, arrays, metric, self._order, self._mean, self._per_photon, self._watch)

    def corrected(self) -> Corrected | None:
        """With the patterns' modulus, and with another phase, as far as that is better; None if it is not."""
        course = self._tried(self._spectrum)
        if not math.isfinite(course.error):
            return None
        spectrum, is_better, is_conjugated = self._spectrum, False, False
        other = self._with_modulus(spectrum)
        found = self._tried(other, course)
        most = min(_BETTER * course.error, course.error - self._of_noise)
        if found.error < most and self._clearly(found, course):
            spectrum, course, is_better = other, found, True
        if not self._trials.is_mostly_noise(course.error):
            for other in self._conjugates(spectrum):
                found = self._tried(other, course)
                if found.error < (1.0 if is_conjugated else _CONJUGATE) * course.error:
                    spectrum, course, is_better, is_conjugated = other, found, True, True
        is_weak, is_explained = (self._trials.is_mostly_noise(e) for e in (course.errors[0], course.error))
        if is_weak or not is_explained:
            # what is wrong with a phase that is far from right is not all in the middle; and where the object
            # hardly stands out of the noise, little is left to tell probes by
            self._look_at(CoarseScan(self._raw, self._arrays, self._per_photon, whole=True))
            course = self._tried(spectrum)
        base = spectrum
        focus, of_focus = self._focus(base, course)
        for coefficients, found in ((focus, of_focus), self._fitted(base, focus, course)):
            noise = min(noise_of_root(self._mean, found.error), self._trials.photons)
            least = _PER_TERM * noise * len(self._terms) / len(self._order)
            if self._dim:  # steps of the trials make more noise in the error than coefficients do
                least = max(least, (1.0 - _BETTER) * course.error)
            # where the modulus was wrong, that the phase is, too, is no surprise
            if found.error < course.error - least and (is_better or self._clearly(found, course)):
                spectrum, course, is_better = self._with_phase(base, coefficients), found, True
        return Corrected(self._to_sample(spectrum), is_conjugated) if is_better else None

    def _clearly(self, found: Course, before: Course) -> bool:
        return self._trials.is_mostly_noise(before.error) or found.error < CLEARLY_BETTER * before.error

    def _with_modulus(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        power = (np.abs(spectrum) ** 2).sum(0)
        ratio = np.sqrt(self._best / np.maximum(power, _LEAST_LIGHT * power.max()))
        ratio = np.where(self._good, ratio, 1.0)
        # the probe's power is a matter of the whole scan and of its object, not of the patterns here
        ratio *= np.sqrt(power.sum() / (power * ratio**2).sum())
        return np.asarray(spectrum * ratio, np.complex64)

    def _conjugates(self, spectrum: NDArray[np.complex64]) -> list[NDArray[np.complex64]]:
        """The complex conjugate of the pupil, and that of the probe, if they are other probes.

        They differ by a half turn. The first has every aberration of the other sign and goes with positions
        of the wrong signs; the second, those that are even alone, as on the other side of the focus.
        """
        given = self._arrays.get(self._to_sample(spectrum))
        turned = np.conj(spectrum)
        if _overlap(given, self._arrays.get(self._to_sample(turned))) > _SAME:
            return []
        conjugate = np.conj(given)
        if _overlap(given, conjugate) > _SAME:
            return []
        other = self._to_pupil(self._arrays.put(conjugate))
        return [turned] if _overlap(turned, other) > _SAME else [turned, other]

    def _with_phase(
        self, spectrum: NDArray[np.complex64], coefficients: NDArray[np.float64]
    ) -> NDArray[np.complex64]:
        return _turned(spectrum, self._terms, coefficients)

    def _tried(self, spectrum: NDArray[np.complex64], rival: Course | None = None) -> Course:
        """A short trial."""
        return self._trials.run(self._begin(self._coarse.middle(spectrum)), rival=rival)

    def _focus(self, spectrum: NDArray[np.complex64], course: Course) -> tuple[NDArray[np.float64], Course]:
        """Coefficients of the defocus with the least error, downhill from none, and its trial.

        Far from noise they are zero.
        """
        best = np.zeros(len(self._terms))
        if not self._trials.is_mostly_noise(course.error):
            return best, course
        courses = {0.0: course}

        def error_at(defocus: float) -> float:
            if defocus not in courses:
                other = self._with_phase(spectrum, np.eye(1, len(self._terms))[0] * defocus)
                courses[defocus] = self._tried(other, courses[float(best[0])])
            return courses[defocus].error

        for step in (_FOCUS_STEP, _FOCUS_STEP / 2):
            while abs(best[0]) < _FARTHEST_FOCUS:
                other = min((best[0] - step, best[0] + step), key=error_at)
                if error_at(other) >= error_at(float(best[0])):
                    break
                best[0] = other
        return best, courses[float(best[0])]

    def _fitted(
        self, spectrum: NDArray[np.complex64], start: NDArray[np.float64], rival: Course
    ) -> tuple[NDArray[np.float64], Course]:
        """Coefficients that have learnt from a start, and a trial of them."""
        coefficients = start.copy()
        middle, terms = self._coarse.middle(spectrum), self._coarse.middle(self._terms)

        def slope(iterate: Iterate, found: Gradients, _: NDArray[np.int64]) -> NDArray[np.float64]:
            pupil, of_pupil = self._to_pupil(iterate.probe), self._to_pupil(found.probe)
            turn = (np.conj(pupil) * of_pupil).sum(0).imag
            return np.asarray((terms * turn).sum((1, 2)))

        def apply(iterate: Iterate) -> None:
            iterate.probe = self._coarse.probe_of(_turned(middle, terms, coefficients))

        def is_worth_it() -> bool:
            return float(((coefficients - start) ** 2).sum()) > _IDLE**2

        begin = self._begin(_turned(middle, terms, coefficients))
        learning = Learning(
            coefficients,
            _RATE,
            probe=True,
            positions=False,
            slope=slope,
            apply=apply,
            is_worth_it=is_worth_it,
        )
        if not self._trials.run(begin, learning).is_whole:
            return start, rival
        return coefficients, self._tried(self._with_phase(spectrum, coefficients), rival)

    def _begin(self, middle: NDArray[np.complex64]) -> Iterate:
        """What a trial of a spectrum begins with, of which only the middle is given."""
        return Iterate(self._canvas, self._coarse.probe_of(middle), self._positions)

    def _to_pupil(self, probe: Array) -> NDArray[np.complex64]:
        return np.asarray(self._arrays.get(self._arrays.fft(self._arrays.copy(probe))), np.complex64)

    def _to_sample(self, spectrum: NDArray[np.complex64]) -> Array:
        return self._arrays.ifft(self._arrays.put(spectrum))


def _overlap(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> float:
    """Of two probes (modes, N, N), mode by mode: 1 where they are the same up to a factor for each mode."""
    both = float(np.abs((np.conj(first) * second).sum((1, 2))).sum())
    powers = float((np.abs(first) ** 2).sum()) * float((np.abs(second) ** 2).sum())
    return both / math.sqrt(powers)


def _turned(
    spectrum: NDArray[np.complex64], terms: NDArray[np.float32], coefficients: NDArray[np.float64]
) -> NDArray[np.complex64]:
    """A spectrum with a phase of these terms."""
    return np.asarray(spectrum * np.exp(1j * np.tensordot(coefficients, terms, 1)), np.complex64)


def _aberrations(mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """(8, N, N): defocus, astigmatism, coma, trefoil and spherical aberration, zero frequency at (N/2, N/2).

    They are of the order of 1 at the rim of the pupil, an even disk of which would have the second moment
    of the mean pattern. A linear phase is left out: it moves the probe, and the object can move as well.
    """
    frequency = scipy.fft.fftshift(scipy.fft.fftfreq(len(mean)))
    squared = frequency[:, None] ** 2 + frequency**2
    rim = math.sqrt(2.0 * float((squared * mean).sum() / mean.sum()))
    x, y = np.broadcast_arrays(frequency[None, :] / rim, frequency[:, None] / rim)
    r2 = x**2 + y**2
    terms = (r2, x**2 - y**2, 2 * x * y, x * r2, y * r2, x**3 - 3 * x * y**2, 3 * x**2 * y - y**3, r2**2)
    return np.stack(terms).astype(np.float32)
