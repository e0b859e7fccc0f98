"""The most probable object given all patterns at once, with the probe and the positions held.

Steps by batches are divided by the illumination, which is right for the object's details. Its phase at large
scales changes the patterns little, all the less the larger the scale: those steps approach it slowly, the
noise of the batches hides it, and its power, which :class:`.ObjectPrior` learns, comes out too low. Here the
object is solved for by L-BFGS (Liu & Nocedal, Math. Program. 45, 503, 1989) on the whole scan, in coordinates
in which all frequencies are determined about equally well, see :class:`.prior.ObjectField`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from .arrays import Array, Arrays
from .model import Iterate, ScanModel
from .prior import ObjectField

_MEMORY = 20
"""Steps whose gradients L-BFGS remembers, at most."""
_BYTES = 1 << 30
"""... and how much memory they may take: each is two vectors of two float64 a pixel."""
_STEPS_JUDGED = 5
_LEAST_GAIN = 0.01
"""Gain in the logarithm of the probability, a pixel, by the last so many steps that calls for more."""
_MANY_PIXELS = 1 << 16
"""... of so many pixels at most: an error on the scale of a large object is a matter of few numbers, and what
it is worth does not grow with the object."""
_PATTERNS = 64
"""Patterns between two questions whether to stop."""


class _Stopped(Exception):
    """The work was asked to stop."""


class Posterior:
    """The negative logarithm of an object's probability given all patterns, but for a constant; its gradient.

    Called with the numbers of an object's field, (2 H W,) float64, it returns both, float64.

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
        (2 H W,) float64, what stands for the iterate's canvas.
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
        self.start = field.start.ravel()
        self._model, self._arrays, self._iterate = model, arrays, iterate
        self._weights, self._should_stop = weights, should_stop
        count = len(weights)
        self._parts = np.array_split(np.arange(count), -(-count // _PATTERNS))

    def __call__(self, numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Cost and gradient, see the class."""
        tried = replace(self._iterate, canvas=self.canvas(numbers))
        gradient = tried.canvas * 0
        value, slope = self._field.penalty(numbers.reshape(self._field.start.shape))
        for part in self._parts:
            if self._should_stop is not None and self._should_stop():
                raise _Stopped
            found = self._model.gradients(tried, part, probe=False, positions=False, weights=self._weights)
            gradient += found.canvas
            # an error is half of what the likelihood's logarithm lacks, and a canvas' gradient is ∂L/∂O*
            value += 2.0 * float(self._weights[part] @ found.errors)
        return value, (slope + self._field.slope(self._arrays.get(4.0 * gradient))).ravel()

    def canvas(self, numbers: NDArray[np.float64]) -> Array:
        """The object that these numbers stand for, (H, W) complex64 on the device."""
        return self._arrays.put(self._field.canvas(numbers.reshape(self._field.start.shape)))


def most_probable(
    posterior: Posterior, steps: int, on_progress: Callable[[float], None] | None = None
) -> tuple[NDArray[np.float64], bool]:
    """Go from the posterior's start towards its most probable object; no step leads to a less probable one.

    Parameters
    ----------
    posterior
        What is known.
    steps
        Steps of L-BFGS at most, each a pass over the scan, or a few where a step is too long.
    on_progress
        Called after every step with the part of the steps that is taken.

    Returns
    -------
    numbers
        (2 H W,) float64, where the last whole step led.
    stopped
        Whether the posterior was asked to stop.
    """
    latest, costs = posterior.start, [math.inf]
    least_gain = _LEAST_GAIN * min(latest.size / 2, _MANY_PIXELS)

    def after_step(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        nonlocal latest
        latest = intermediate_result.x.copy()
        costs.append(intermediate_result.fun)
        if on_progress is not None:
            on_progress((len(costs) - 1) / steps)
        if len(costs) > _STEPS_JUDGED and costs[-1 - _STEPS_JUDGED] - costs[-1] < least_gain:
            raise StopIteration

    memory = int(np.clip(_BYTES // (16 * latest.size), 3, _MEMORY))
    try:
        scipy.optimize.minimize(
            posterior,
            latest,
            jac=True,
            method="L-BFGS-B",
            callback=after_step,
            options={"maxiter": steps, "maxcor": memory, "ftol": 0.0, "gtol": 0.0},
        )
    except _Stopped:
        return latest, True
    return latest, False
