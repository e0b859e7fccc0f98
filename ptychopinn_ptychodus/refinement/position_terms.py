"""Errors that all positions share, found before each position moves by itself: scale, turn, shear and drift.

A smooth displacement of all positions is mostly taken up by an object that is distorted likewise: steps of
single positions, on an object that has been fitted to the wrong ones, hardly see it. So a few coefficients
are fitted together with an object that starts anew: those of an affine map of the positions, of a polynomial
in the patterns' order, which stands for drift, and of the direction of travel, which stands for backlash.
They are kept only if another object that starts anew explains the patterns better with them, and fitted again
as long as that is so: each time they can go several pixels further.

A stretch of the positions, along one axis or both, and the focus and astigmatism of a probe are nearly the
same thing: all say how large the object's shadow is. What the probe's pupil (:mod:`.pupil`) explains as well
is left to the probe. A probe that a network has learnt may be wrong in other ways, too, which positions make
up for in part. So they are moved only if they would explain the patterns better even without the stretch, or
if they still do once the probe is free pixel by pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from .arrays import Array, Arrays
from .coarse import CoarseScan
from .config import RefinementConfig
from .gradients import Gradients
from .iterate import Iterate
from .model import ScanModel
from .pupil import Corrected, sound_part, where_patterns_differ, with_pupil_corrected
from .start import Window
from .trials import CLEARLY_BETTER, Course, Learning, Stopped, Trials, Watch

_IDLE = 0.3
"""Pixels, root mean square over the scan: what has come no farther when a trial asks is left to each
position by itself. Of right positions it was mostly 0.1 to 0.2, of turns and drifts by a pixel or more 0.5
and more."""
_RATE = 0.2  # pixels, root mean square over the scan, of one step of one coefficient
_ROUNDS = 8
_GOES_ON = 0.99  # of the error, for one more round, and for a trial of what a fit has found
_BETTER = 0.99  # of the error; right positions gain up to 0.4 % from a fit
_OTHER_PROBE = 0.98
"""... with another probe, too: where the focus alone is off by 4 %, another scale instead gains 1.5 %."""
_HOPELESS = 1.1
"""Of the best error so far: the probe's pupil is not tried on positions that explain less than that."""
_SPEEDS_UP = 3.0
"""Times what a round gained: more is not to be hoped for of each of those that are left."""
_BEYOND = 0.1
"""Light beyond what is looked at, see :data:`.coarse.BEYOND`: with five times as much, turned positions were
found to 0.13 pixels instead of 0.08."""
_DEGREE = 6  # of the drift
_PATTERNS_PER_TERM = 4
_ALONG = 0.5  # coherence of the directions of travel: with less, there is no axis of travel
_BACK = 0.25  # part of the steps that lead back, of a scan that goes to and fro
_LEAST_NEW = 0.05  # part of a term that the others do not have


@dataclass(frozen=True)
class Beginning:
    """What a refinement had better begin with.

    Attributes
    ----------
    probe
        (modes, N, N) as :class:`.iterate.Iterate` has it; None: the one that was given.
    moved
        (M, 2) float64 [x, y], pixels that all positions are to move by, of mean 0; None: nothing.
    conjugated
        Whether the probe came of the complex conjugate of the one that was given, see :mod:`.pupil`.
    """

    probe: Array | None = None
    moved: NDArray[np.float64] | None = None
    conjugated: bool = False

    @classmethod
    def with_pupil(cls, found: Corrected | None, moved: NDArray[np.float64] | None = None) -> Beginning:
        """With what the pupil was put right by, if anything was."""
        return cls(None, moved) if found is None else cls(found.probe, moved, found.conjugated)


def better_beginning(
    raw: RawData,
    sound: NDArray[np.int64],
    start: NDArray[np.complex64],
    probe: Array,
    config: RefinementConfig,
    arrays: Arrays,
    watch: Watch,
    *,
    per_photon: float,
    pupil: bool,
    terms: bool,
    refined_error: Callable[[RawData, Array], float],
) -> Beginning:
    """The probe put right in its pupil, and the positions by what all have in common.

    Parameters
    ----------
    raw
        The scan.
    sound
        Indices of the patterns that count: without frames that lack the beam, and without flashes.
    start
        (H, W) object of the refinement.
    probe
        (modes, N, N) as :class:`.iterate.Iterate` has it, in scale.
    config, arrays
        As for the refinement.
    watch
        Who watches the trials. Once it says stop, what was found until then is returned.
    per_photon
        Counts of one photon, see :func:`.noise.photon_unit`.
    pupil, terms
        Whether to try either.
    refined_error
        The error of a scan after a short refinement from a flat object and a probe like ``probe``.
    """
    usable = sound_part(raw, sound)

    def in_pupil(scan: RawData) -> Corrected | None:
        if not pupil:
            return None
        return with_pupil_corrected(scan, start, arrays.copy(probe), config, arrays, watch, per_photon)

    corrected = in_pupil(usable)
    unmoved = Beginning.with_pupil(corrected)
    if not terms:
        return unmoved
    other = unmoved.probe
    # what is wrong everywhere shows in a part, at less cost
    part = where_patterns_differ(usable)
    tried = usable.select(part)
    try:
        bench = _Bench(tried, np.arange(len(part)), start.shape, config, arrays, watch, per_photon)
        if not bench.has_terms:
            return unmoved
        choice = _choice(bench, probe, other, lambda moved: in_pupil(moved_by(tried, moved)))
        if choice is None:
            return unmoved
        chosen, fit = choice
        if not bench.is_better_without_stretch(chosen, fit):
            there = refined_error(tried, probe if other is None else other)
            if not refined_error(moved_by(tried, fit.moved), chosen) < _BETTER * there:
                return unmoved
        if len(part) < raw.n_patterns:
            whole = _Bench(raw, sound, start.shape, config, arrays, watch, per_photon)
            of_whole = whole.fitted(chosen)
            if of_whole is None:
                return unmoved
            fit = of_whole
    except Stopped:
        return unmoved
    if chosen is probe:
        corrected = in_pupil(moved_by(usable, fit.moved[sound]))
    return Beginning.with_pupil(corrected, fit.moved)


def _choice(
    bench: _Bench,
    given: Array,
    other: Array | None,
    in_pupil: Callable[[NDArray[np.float64]], Corrected | None],
) -> tuple[Array, _Fit] | None:
    """The probe to fit the positions with, the given one or that of the pupil, and what was found with it.

    None where they are right.
    """
    if other is None:
        found = bench.fitted(given)
        return None if found is None else (given, found)
    held = bench.fitted(other)
    there = bench.error(other) if held is None else held.error_before
    least = there if held is None else held.error
    # a wrong scale may have passed for a wrong focus: is the probe as it was given better, elsewhere?
    found = bench.fitted(given, _HOPELESS * least)
    if found is not None and found.error < _HOPELESS * least:
        anew = in_pupil(found.moved)
        error = found.error if anew is None else bench.error(anew.probe, found.moved)
        if error < least and bench.is_clearly_better(error, there, _OTHER_PROBE):
            return given, found
    return None if held is None else (other, held)


def moved_by(raw: RawData, moved: NDArray[np.float64]) -> RawData:
    """The scan, its patterns shared, with positions moved by (M, 2) [x, y] pixels."""
    scan = raw.select(slice(None))
    scan.xcoords, scan.ycoords = raw.xcoords + moved[:, 0], raw.ycoords + moved[:, 1]
    return scan


def position_terms(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the errors of all positions may have in common, for each axis.

    Parameters
    ----------
    positions
        (M, 2) [x, y], in the order in which they were measured.

    Returns
    -------
    ndarray
        (M, K) float64, columns of mean 0 and mean square 1, orthogonal to each other: x and y, the direction
        of travel if the scan goes to and fro, and polynomials in the order. K is no more than M / 4.
    """
    count = len(positions)
    columns = [np.ones(count), *(positions - positions.mean(axis=0)).T]
    travel = _direction(positions)
    if travel is not None:
        columns.append(travel)
    columns.extend(legendre.legvander(np.linspace(-1.0, 1.0, count), _DEGREE).T[1:])
    found: list[NDArray[np.float64]] = []
    for column in columns[: 1 + count // _PATTERNS_PER_TERM]:
        size = math.sqrt(float((column**2).mean()))
        if size == 0.0:
            continue
        rest = column / size
        for other in found:
            rest = rest - other * float((other * rest).mean())
        size = math.sqrt(float((rest**2).mean()))
        if size > _LEAST_NEW:
            found.append(rest / size)
    return np.stack(found, -1)[:, 1:]


def _direction(positions: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(M,) 1 or -1, which way the scan goes along its fast axis; None where it does not go to and fro."""
    if len(positions) < 2:
        return None
    steps = np.diff(positions, axis=0) @ np.array([1.0, 1.0j])
    length = np.abs(steps)
    # an axis has no sign: angles are doubled
    doubled = (np.divide(steps, length, out=np.zeros_like(steps), where=length > 0) ** 2).mean()
    if abs(doubled) < _ALONG:
        return None
    along = (steps * np.exp(-0.5j * np.angle(doubled))).real
    sign = np.where(along < 0, -1.0, 1.0)
    if not _BACK <= float((sign < 0).mean()) <= 1.0 - _BACK:
        return None
    return np.concatenate((sign[:1], sign))


@dataclass(frozen=True)
class _Fit:
    """Displacements (M, 2), and the mean error of a pattern with them and without."""

    moved: NDArray[np.float64]
    error: float
    error_before: float


class _Bench:
    """Trials of positions on a scan. Displacements are in the scan's pixels, trials in coarser ones."""

    def __init__(
        self,
        raw: RawData,
        sound: NDArray[np.int64],
        shape: tuple[int, ...],
        config: RefinementConfig,
        arrays: Arrays,
        watch: Watch,
        per_photon: float,
    ) -> None:
        self._arrays = arrays
        self._coarse = coarse = CoarseScan(raw, arrays, per_photon, beyond=_BEYOND)
        tried = coarse.raw
        reach = raw.N / 2.0
        window = Window(coarse.shape(shape), tried, reach / coarse.finer)
        where = np.stack((raw.xcoords, raw.ycoords), -1)
        # centres stay on the object
        edge = np.array([shape[1] - 1.0, shape[0] - 1.0])
        self._least, self._most = np.maximum(-where, -reach), np.minimum(edge - where, reach)
        self._positions = window.inside(np.stack((tried.xcoords, tried.ycoords), -1))
        # the start's object was made with the positions as they are
        self._canvas = window.cut(np.ones(coarse.shape(shape), np.complex64))
        order = sound[neighbourhood_order(self._positions[sound])]
        model = ScanModel(tried, arrays, config.error_metric)
        mean = model.mean_counts(sound)
        self._trials = Trials(model, arrays, config.error_metric, order, mean, per_photon, watch)
        self._terms = position_terms(self._positions)

    @property
    def has_terms(self) -> bool:
        """Whether there is anything to fit."""
        return bool(self._terms.size)

    def is_clearly_better(self, error: float, before: float, gain: float = _BETTER) -> bool:
        """Whether an error is lower by more than what right positions gain, too."""
        return error < before * (gain if self._trials.is_mostly_noise(error) else CLEARLY_BETTER)

    def fitted(self, probe: Array, wanted: float = math.inf) -> _Fit | None:
        """Displacements under a probe, round after round as long as the error falls.

        None if they do not make it clearly lower, or if it falls too slowly to come to what is wanted.
        """
        moved = np.zeros_like(self._positions)
        before: Course | None = None
        for number in range(_ROUNDS):
            coefficients = np.zeros((self._terms.shape[1], 2))
            reached = self._trials.run(self._start(probe, moved), self._learning(moved, coefficients))
            if number == 0:
                if not reached.is_whole:
                    return None
                before = course = self._tried(probe)
            # it had more epochs than a trial has
            if not reached.error < _GOES_ON * course.error:
                break
            tried = self._within(moved + self._terms @ coefficients)
            found = self._tried(probe, tried, course)
            if not found.error < course.error:
                break
            gain = course.error - found.error
            moved, course = tried, found
            if course.error - _SPEEDS_UP * (_ROUNDS - number - 1) * gain > wanted:
                return None
            if not gain > (1.0 - _GOES_ON) * (course.error + gain):
                break
        assert before is not None
        better = math.isfinite(course.error) and self.is_clearly_better(course.error, before.error)
        return _Fit(moved - moved.mean(axis=0), course.error, before.error) if better else None

    def is_better_without_stretch(self, probe: Array, fit: _Fit) -> bool:
        """Whether displacements less the symmetric part of their affine map are still clearly better."""
        centred = self._coarse.finer * (self._positions - self._positions.mean(axis=0))
        affine = np.linalg.lstsq(centred, fit.moved, rcond=None)[0]
        error = self.error(probe, fit.moved - centred @ (affine + affine.T) / 2.0)
        return self.is_clearly_better(error, fit.error_before)

    def error(self, probe: Array, moved: NDArray[np.float64] | float = 0.0) -> float:
        """Mean error of a pattern in the last epoch of a short trial."""
        return self._tried(probe, moved).error

    def _tried(
        self, probe: Array, moved: NDArray[np.float64] | float = 0.0, rival: Course | None = None
    ) -> Course:
        return self._trials.run(self._start(probe, moved), rival=rival)

    def _start(self, probe: Array, moved: NDArray[np.float64] | float) -> Iterate:
        positions = self._positions + moved / self._coarse.finer
        return Iterate(self._arrays.put(self._canvas), self._coarse.probe(probe), positions)

    def _learning(self, moved: NDArray[np.float64], coefficients: NDArray[np.float64]) -> Learning:
        """Coefficients (K, 2) of what positions are moved by beyond ``moved``."""

        def slope(_: Iterate, found: Gradients, dealt: NDArray[np.int64]) -> NDArray[np.float64]:
            assert found.positions is not None
            return np.asarray(self._terms[dealt].T @ found.positions)

        def apply(iterate: Iterate) -> None:
            tried = self._within(moved + self._terms @ coefficients)
            iterate.positions = self._positions + tried / self._coarse.finer

        def is_worth_it() -> bool:
            # what a first round left is worth a second one in any case
            return bool(moved.any()) or float(((self._terms @ coefficients) ** 2).sum(1).mean()) > _IDLE**2

        return Learning(coefficients, _RATE, False, True, slope, apply, is_worth_it)

    def _within(self, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(moved, self._least, self._most)
