"""A wide search for positions that are wrong by many pixels, each in its own way.

Steps along the gradient find what lies in the same valley of the error, a pixel or two away. Farther off,
every pattern is compared with what the estimate says of a whole disk of displacements, on a coarse lattice,
and goes to the best of them, all patterns at once. The object that it is compared with was made with the
wrong positions: it is blurred, which makes the valleys wide, and sharpens from round to round. The probe is
left as it is at first: a free one explains the mean of patterns that do not fit together, and turns into
noise. Once displacements bring no more, short refinements with a free probe follow.

Errors that have nothing in common have no part in an affine map of the positions. What displacements have of
one is taken off: an object that is stretched likewise hides it, and it would grow. What is affine in the
errors is left to :mod:`.position_terms`, before and after.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from .arrays import Array
from .config import RefinementConfig
from .iterate import Iterate, chequerboard
from .measured import Measured
from .model import ScanModel
from .report import Refined
from .start import Window
from .trials import Stopped, Trials, Watch

logger = logging.getLogger(__name__)

WORTH_IT = 1.2
"""Error, over what photons leave, from which on positions may be far off."""
_SPACING = 3.0  # pixels of the lattice
_FIRST_REACH = 0.125
_MOST_REACH = 0.25
"""Of the patterns' size: how far to look at first, and at most in one round."""
_MARGIN = 1.0  # of the patterns' size: of the object, beyond where patterns were recorded
_ASKED = 64  # patterns, spread over the scan, that tell whether to search
_FEW = 0.05  # part of the patterns that may want to go farther than a disk reaches
_GAIN = 0.02  # of a pattern's error, for another place
_DEVIATIONS = 5.0  # of what noise makes of the difference between two places
_ENOUGH = 0.1
"""Part of the patterns that must be better elsewhere. Of right positions none are, under a wrong probe hardly
any."""
_FEWEST = 16  # patterns
_COMPARING = 0.3  # of the time of a step takes it to compare
_AT_A_TIME = 1024  # patterns, before it is asked whether to stop
_ROUNDS = 16
_GOES_ON = 0.97  # of the error, for one more round


@dataclass(frozen=True)
class _State:
    """Displacements (M, 2) of the positions, the estimate with them, and the mean error of a pattern."""

    moved: NDArray[np.float64]
    canvas: Array
    probe: Array
    error: float


class PositionSearch:
    """The search on one scan.

    Parameters
    ----------
    measured
        The scan. Patterns that are not sound stay where they are.
    start
        (H, W) object of the refinement, on which positions stay.
    config
        That of the refinement.
    watch
        Who watches it.
    refined
        A short refinement, from a flat object, of a scan and a probe as :class:`.iterate.Iterate` has it.
    """

    def __init__(
        self,
        measured: Measured,
        start: NDArray[np.complex64],
        config: RefinementConfig,
        watch: Watch,
        refined: Callable[[RawData, Array], Refined],
    ) -> None:
        raw, sound, arrays = measured.raw, measured.sound, measured.arrays
        self._raw, self._sound, self._arrays, self._refined = raw, sound, arrays, refined
        self._watch, self._per_photon = watch, measured.per_photon
        self._model = ScanModel(raw, arrays, config.error_metric)
        self._first_reach, self._most = (part * raw.N for part in (_FIRST_REACH, _MOST_REACH))
        where = np.stack((raw.xcoords, raw.ycoords), -1)
        edge = np.array([start.shape[1] - 1.0, start.shape[0] - 1.0])
        self._bounds = -where, edge - where  # centres stay on the object
        # terms may have moved them by half the patterns' size already, see :mod:`.position_terms`
        self._window = Window(start.shape, raw, _MARGIN * raw.N)
        self._positions = self._window.inside(where)
        self._flat = self._window.cut(np.ones_like(start))
        order = sound[neighbourhood_order(self._positions[sound])]
        self._asked = np.sort(order[:: -(-len(order) // _ASKED)])
        metric, mean, per_photon = config.error_metric, measured.mean, measured.per_photon
        self._trials = Trials(self._model, arrays, metric, order, mean, per_photon, watch)

    def found(self, probe: Array, begun: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Displacements (M, 2) [x, y] of the recorded positions; None: nothing is far off, or it was stopped.

        Parameters
        ----------
        probe
            (modes, N, N) as :class:`.iterate.Iterate` has it, in scale.
        begun
            (M, 2) displacements to begin with, or with none if that leads to a better fit.
        """
        if len(self._sound) < _FEWEST:
            return None
        try:
            # terms may have been fitted to errors of another kind. Before a search, that does not show: with
            # positions that lie farther apart, patterns share less of an object, and always fit better
            beginnings = [begun, np.zeros_like(begun)] if begun.any() else [begun]
            states = [self._fitted(moved, probe) for moved in beginnings]
            states = [self._followed(state, self._fitted) for state in states if self._is_far_off(state)]
            if not states:
                return None
            state = min(states, key=lambda state: state.error)
            return self._followed(self._short(state.moved, state.probe), self._short).moved
        except Stopped:
            return None

    def _is_far_off(self, state: _State) -> bool:
        """Whether a good part of the patterns that are asked are better elsewhere."""
        shifts = self._shifts(state, self._first_reach, self._asked)[self._asked]
        return float((shifts != 0).any(axis=1).mean()) >= _ENOUGH

    def _followed(self, state: _State, remade: Callable[[NDArray[np.float64], Array], _State]) -> _State:
        """Round after round as long as the error falls."""
        reach = self._first_reach
        for _ in range(_ROUNDS):
            shift = self._shifts(state, reach, self._sound)
            lengths = np.hypot(*shift[self._sound].T)
            wanted = float(np.quantile(lengths, 1.0 - _FEW))
            # what lies at the edge of the disk may lie beyond it
            is_short = wanted > reach - 2.0 * _SPACING
            other = min(2.0 * reach, self._most) if is_short else wanted + 2.0 * _SPACING
            following = remade(self._apart(state.moved, shift), state.probe)
            if not (following.error < _GOES_ON * state.error or other > reach):
                return following if following.error < state.error else state
            if following.error < state.error:
                state = following
            reach = other
        return state

    def _fitted(self, moved: NDArray[np.float64], probe: Array) -> _State:
        """An object that starts anew, under the probe as it is."""
        start = Iterate(self._arrays.put(self._flat), probe, self._positions + moved)
        course = self._trials.run(start)
        return _State(moved, course.canvas, probe, course.error)

    def _short(self, moved: NDArray[np.float64], probe: Array) -> _State:
        """A short refinement, of the probe and of each position as well."""
        scan = self._raw.select(slice(None))
        scan.xcoords, scan.ycoords = (self._raw.xcoords + moved[:, 0], self._raw.ycoords + moved[:, 1])
        found = self._refined(scan, probe)
        if found.stopped:
            raise Stopped
        return _State(
            self._within(self._window.inside(found.positions) - self._positions),
            self._arrays.put(self._window.cut(found.object)),
            self._arrays.put(np.asarray(found.probe * chequerboard(self._raw.N), np.complex64)),
            found.error,
        )

    def _shifts(self, state: _State, reach: float, which: NDArray[np.int64]) -> NDArray[np.float64]:
        """(M, 2), what these patterns are better moved by; 0 for the others, and where noise may say so."""
        positions = self._positions + state.moved
        iterate = Iterate(state.canvas, state.probe, positions)
        shifts = np.zeros_like(positions)
        for part in np.array_split(which, -(-len(which) // _AT_A_TIME)):
            here = self._model.compare(iterate, part).errors
            least = here - _GAIN * here - _DEVIATIONS**2 * self._per_photon
            best = np.zeros((len(part), 2))
            for shift in _disk(reach):
                if self._watch.should_stop():
                    raise Stopped
                moved = replace(iterate, positions=positions + shift)
                errors = self._model.compare(moved, part).errors
                self._watch.on_patterns(round(_COMPARING * len(part)))
                better = errors < least
                least, best = np.where(better, errors, least), np.where(better[:, None], shift, best)
            shifts[part] = best
        return shifts

    def _apart(self, moved: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements with a shift less its affine part."""
        centred = self._positions[self._sound] - self._positions[self._sound].mean(axis=0)
        terms = np.hstack((np.ones((len(centred), 1)), centred))
        there = shift[self._sound]
        shift = shift.copy()
        shift[self._sound] -= terms @ np.linalg.lstsq(terms, there, rcond=None)[0]
        return self._within(moved + shift)

    def _within(self, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        least, most = self._bounds
        farthest = (_MARGIN - _MOST_REACH) * self._raw.N  # a lattice around it is still on the canvas
        return np.clip(np.clip(moved, -farthest, farthest), least, most)


def tell_of_search(moved: NDArray[np.float64]) -> None:
    """Warn of how far positions were moved, (M, 2) pixels."""
    length = np.hypot(*moved.T)
    logger.warning(
        "Positions were far off, each in its own way, and were searched for: they are moved by %.3g pixels, "
        "root mean square, and by %.3g at most. Patterns fit better there; whether positions are right shows "
        "in the object alone.",
        math.sqrt(float((length**2).mean())),
        float(length.max()),
    )


def _disk(reach: float) -> NDArray[np.float64]:
    """(K, 2) points of a lattice within a reach, the nearest first, without the centre."""
    count = int(reach / _SPACING)
    axis = _SPACING * np.arange(-count, count + 1)
    x, y = np.meshgrid(axis, axis)
    points = np.stack((x.ravel(), y.ravel()), -1)
    length = np.hypot(*points.T)
    order = np.argsort(length, kind="stable")[1:]
    chosen: NDArray[np.float64] = points[order][length[order] <= reach]
    return chosen
