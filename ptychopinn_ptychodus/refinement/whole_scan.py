"""The most probable object given all patterns at once, with the probe and the positions held.

Steps by batches are divided by the illumination, which is right for the object's details. Its phase at large
scales changes the patterns little, all the less the larger the scale: those steps approach it slowly, the
noise of the batches hides it, and its power, which :class:`.ObjectPrior` learns, comes out too low. Here the
object is solved for by L-BFGS (Liu & Nocedal, Math. Program. 45, 503, 1989) on the whole scan, in coordinates
in which all frequencies are determined about equally well, see :class:`.object_field.ObjectField`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Arrays
from .iterate import Iterate
from .lbfgs import lbfgs
from .model import ScanModel
from .object_field import ObjectField

_MEMORY = 10
"""Steps whose gradients L-BFGS remembers."""
_STEPS_JUDGED = 5
LEAST_GAIN = 0.01
"""Gain in the logarithm of the probability, a pixel, by the last so many steps that calls for more."""
_PATTERNS, _PARTS = 64, 32
"""Patterns between two questions whether to stop, and parts of the scan at most: each makes a canvas."""


class _Stopped(Exception):
    """The work was asked to stop."""


class Posterior:
    """The negative logarithm of an object's probability given all patterns, but for a constant; its gradient.

    Called with the numbers of an object's field, (n,), it returns both, the gradient as float32.

    Parameters
    ----------
    model
        The scan, by its likelihood; its gradients have no bound, see :class:`.ScanModel`.
    arrays
        The library to work with.
    iterate
        Its probe and positions are held. It is left as it is.
    field
        The iterate's canvas, and what is known of objects.
    weights
        (M,) float64, what each pattern counts for, over the counts of a photon.
    should_stop
        Asked every few patterns.

    Attributes
    ----------
    start
        (n,) float32, what stands for the iterate's canvas.
    pixels
        Of the canvas.
    """

    def __init__(
        self,
        model: ScanModel,
        arrays: Arrays,
        iterate: Iterate,
        field: ObjectField,
        weights: NDArray[np.float64],
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._field = field
        self.start: NDArray[np.floating] = field.start
        self.pixels = field.pixels
        self._model, self._arrays, self._iterate = model, arrays, iterate
        self._weights, self._should_stop = weights, should_stop
        count = len(weights)
        self._parts = np.array_split(np.arange(count), min(-(-count // _PATTERNS), _PARTS))

    def __call__(self, numbers: NDArray[np.floating]) -> tuple[float, NDArray[np.float32]]:
        """Cost and gradient, see the class."""
        tried = replace(self._iterate, canvas=self.canvas(numbers))
        gradient = tried.canvas * 0
        value = 0.0
        for part in self._parts:
            if self._should_stop is not None and self._should_stop():
                raise _Stopped
            found = self._model.gradients(tried, part, probe=False, positions=False, weights=self._weights)
            gradient += found.canvas
            # an error is half of what the likelihood's logarithm lacks, and a canvas' gradient is ∂L/∂O*
            value += 2.0 * float(self._weights[part] @ found.errors)
        del tried, found
        gradient *= 4.0
        penalty, slope = self._field.cost(numbers, self._arrays.get(gradient))
        return value + penalty, slope

    def canvas(self, numbers: NDArray[np.floating]) -> Array:
        """The object that these numbers stand for, (H, W) complex64 on the device."""
        return self._arrays.put(self._field.canvas(numbers))


def most_probable(
    posterior: Posterior,
    steps: int,
    on_progress: Callable[[float], None] | None = None,
    least_gain: float = LEAST_GAIN,
) -> tuple[NDArray[np.floating], bool]:
    """Go from the posterior's start towards its most probable object; no step leads to a less probable one.

    Parameters
    ----------
    posterior
        What is known.
    steps
        Steps of L-BFGS at most, each a pass over the scan, or a few where a step is too long.
    on_progress
        Called after every step with the part of the steps that is taken.
    least_gain
        Of a few steps, a pixel, which calls for more.

    Returns
    -------
    numbers
        (n,) float32, where the last whole step led.
    stopped
        Whether the posterior was asked to stop.
    """
    latest, costs = posterior.start, [math.inf]
    try:
        for point, cost in itertools.islice(lbfgs(posterior, posterior.start, _MEMORY), steps):
            latest = point
            costs.append(cost)
            if on_progress is not None:
                on_progress((len(costs) - 1) / steps)
            if (
                len(costs) > _STEPS_JUDGED
                and costs[-1 - _STEPS_JUDGED] - costs[-1] < least_gain * posterior.pixels
            ):
                break
    except _Stopped:
        return latest, True
    return latest, False
