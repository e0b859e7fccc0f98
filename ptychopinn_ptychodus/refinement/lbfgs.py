"""L-BFGS (Liu & Nocedal, Math. Program. 45, 503, 1989) for coordinates in which a cost is about white.

Unlike scipy's, the first step has the length that such a cost calls for, where a step of length 1 would be
followed by half a dozen that find the scale; and what is remembered is of the start's own precision.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..data import large_arrays

Vector = NDArray[np.floating]

_ENOUGH = 1e-4
"""Part of what the slope promises that a step has to gain."""
_SHORTEST, _LONGEST = 0.1, 0.5  # of a step that failed, for the next
_TRIES = 24  # where a dark pixel has counted a photon, the cost falls steeply, but not far
_CURVED = 1e-6
"""Cosine between a step and what it changes of the slope, below which the cost is not taken for convex."""


def lbfgs(
    cost: Callable[[Vector], tuple[float, Vector]], start: Vector, remembered: int
) -> Iterator[tuple[Vector, float]]:
    """Steps downhill, for as long as they are asked for and lead anywhere.

    Parameters
    ----------
    cost
        A function of a vector that returns its value and its gradient.
    start
        (n,) floating-point; all vectors are of its precision.
    remembered
        Steps whose changes of the gradient are kept, 1 or more.

    Yields
    ------
    tuple
        Where a step led, a new array, and the cost there, which is lower each time.
    """

    def keep(vector: Vector) -> Vector:
        return large_arrays.set_aside(vector, "Steps of the object", together=max(1, remembered // 2))

    point = start
    value, slope = cost(point)
    pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=remembered)
    while True:
        step = _newton_step(slope, pairs)
        promised = float(step @ slope)
        if not promised < 0:
            return
        length = 1.0
        for _ in range(_TRIES):
            tried = point + np.asarray(length, start.dtype) * step
            found, ahead = cost(tried)
            if found <= value + _ENOUGH * length * promised:
                break
            # to the lowest point of the parabola through what is known
            bend = found - value - length * promised
            best = -0.5 * length**2 * promised / bend if math.isfinite(bend) else 0.0
            length = float(np.clip(best, _SHORTEST * length, _LONGEST * length))
        else:
            return
        step, change = tried - point, ahead - slope
        curved = float(step @ change)
        if curved > _CURVED * math.sqrt(float(step @ step) * float(change @ change)):
            pairs.append((keep(step), keep(change), curved))
        point, value, slope = tried, found, ahead
        yield point, value


def _newton_step(slope: Vector, pairs: deque[tuple[Vector, Vector, float]]) -> Vector:
    """The two loops of the method; without pairs, steepest descent as the Hessian 1 has it."""
    step = -slope
    parts: list[float] = []
    # [:] makes those that are in files be read anew, and leaves one of them in memory at a time
    for moved, change, curved in reversed(pairs):
        parts.append(float(moved[:] @ step) / curved)
        step -= step.dtype.type(parts[-1]) * change[:]
    if pairs:
        _, change, curved = pairs[-1]
        step *= step.dtype.type(curved / float(change[:] @ change))
    for (moved, change, curved), part in zip(pairs, reversed(parts), strict=True):
        step += step.dtype.type(part - float(change[:] @ step) / curved) * moved[:]
    return step
