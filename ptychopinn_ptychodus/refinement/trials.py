"""Short fits of an object that starts anew, by which probes and positions are tried.

What is tried may be given by a few coefficients, which then learn together with the object.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .adam import Adam
from .arrays import Array, Arrays
from .batches import spread_batches
from .config import SMALLEST_BATCH, RefinementConfig
from .gradients import Gradients
from .iterate import Iterate
from .model import ScanModel
from .noise import PHOTONS
from .object_steps import ObjectSteps
from .schedule import decay

TRIAL, FIT = 8, 16
"""Epochs of a trial, and of a fit in which coefficients learn."""
_HOPELESS_AFTER, _HOPELESS = 4, 1.1
"""Epochs after which a trial that is that much worse than its rival was has never come out better."""
_WAIT = 2  # epochs before coefficients learn
_LOOK = 6  # epochs before it is asked whether they are worth it
_BATCHES = 6
"""Fewer than in a refinement: what steps on few patterns make of noise would hide what a trial is to tell."""


CLEARLY_BETTER = 0.8
"""Of an error that is far from noise: whatever is tried may explain a part of what has other causes."""
_FAR_FROM_NOISE = 2.0  # times what noise leaves


class Stopped(Exception):
    """The work was asked to stop."""


@dataclass(frozen=True)
class Watch:
    """Who watches trials.

    Attributes
    ----------
    should_stop
        Asked before every batch.
    on_patterns
        Told after every batch how many patterns it had.
    """

    should_stop: Callable[[], bool] = lambda: False
    on_patterns: Callable[[int], None] = lambda _: None


@dataclass(frozen=True)
class Learning:
    """Coefficients that learn together with an object.

    Attributes
    ----------
    values
        Any shape, float64, changed in place.
    rate
        Length of a step of one of them.
    probe, positions
        Whose gradients their slope takes.
    slope
        Of the error by the values, from the iterate, its gradients and the patterns of a batch.
    apply
        Puts into the iterate what the values stand for.
    is_worth_it
        Whether the values have come so far, in the first epochs, that the fit is to go on.
    """

    values: NDArray[np.float64]
    rate: float
    probe: bool
    positions: bool
    slope: Callable[[Iterate, Gradients, NDArray[np.int64]], NDArray[np.float64]]
    apply: Callable[[Iterate], None]
    is_worth_it: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Course:
    """How the error of a trial fell.

    Attributes
    ----------
    errors
        Mean error of a pattern in each epoch.
    canvas
        The object it came to, as :class:`.iterate.Iterate` has it.
    is_whole
        Whether it came to its end: it did not overflow, and was not given up.
    """

    errors: tuple[float, ...]
    canvas: Array = field(repr=False, compare=False)
    is_whole: bool = True

    @property
    def error(self) -> float:
        """That of the last epoch, or infinity if it did not come to its end."""
        return self.errors[-1] if self.is_whole else math.inf


class Trials:
    """Fits of objects to some patterns of a scan.

    Parameters
    ----------
    model, arrays
        The scan, and the library to work with.
    metric
        By what errors are measured.
    order
        Numbers of the patterns, neighbours after each other.
    mean
        (N, N) their mean in counts, as :meth:`.model.ScanModel.mean_counts` has it.
    per_photon
        Counts of one photon, see :func:`.noise.photon_unit`.
    watch
        Who watches them.

    Attributes
    ----------
    photons
        Variance that photons give to the root of a pixel's counts.
    """

    def __init__(
        self,
        model: ScanModel,
        arrays: Arrays,
        metric: str,
        order: NDArray[np.int64],
        mean: NDArray[np.float64],
        per_photon: float,
        watch: Watch,
    ) -> None:
        self._model, self._arrays = model, arrays
        self._config = RefinementConfig(metric=metric)  # trials take the usual steps
        self._order, self._mean = order, mean
        self._batches = max(min(_BATCHES, len(order) // SMALLEST_BATCH), 1)
        self._watch = watch
        self.photons = PHOTONS * per_photon
        self._noise = float(np.minimum(mean, self.photons).sum())

    def is_mostly_noise(self, error: float) -> bool:
        """Whether an error, as :meth:`error` has it, is not far from what photons alone would leave."""
        return error < _FAR_FROM_NOISE * self._noise

    def run(self, start: Iterate, learning: Learning | None = None, rival: Course | None = None) -> Course:
        """Fit an object from the start's, which is left as it is, and coefficients if there are any.

        It is given up where it is far behind a rival, another trial on the same patterns, and where the
        coefficients are not worth it.

        Raises
        ------
        Stopped
            If it was asked to stop.
        """
        epochs = TRIAL if learning is None else FIT
        iterate = replace(start, canvas=self._arrays.copy(start.canvas))
        self._model.hold(iterate)
        steps = ObjectSteps(self._model, self._arrays, self._config, start, self._batches, self._mean)
        adam = None if learning is None else Adam(learning.values)
        rng = np.random.default_rng(0)
        errors: list[float] = []
        for epoch in range(epochs):
            steps.prepare(iterate)
            learns = learning if epoch >= _WAIT else None
            error = 0.0
            for number, indices in enumerate(spread_batches(self._order, self._batches, rng)):
                if self._watch.should_stop():
                    raise Stopped
                found = self._model.gradients(
                    iterate,
                    indices,
                    probe=learns is not None and learns.probe,
                    positions=learns is not None and learns.positions,
                    illumination=True,
                )
                error += float(found.errors.sum()) / len(self._order)
                if not math.isfinite(error):
                    return Course((*errors, error), iterate.canvas, is_whole=False)
                done = epoch + number / self._batches
                rate = min(1.0, done + 1.0 / self._batches) * decay(done / epochs)
                steps.step(iterate, found, rate)
                if learns is not None and adam is not None:
                    slope = learns.slope(iterate, found, indices)
                    adam.step(slope, learns.rate * min(1.0, 2.0 * (1.0 - done / epochs)))
                    learns.apply(iterate)
                self._watch.on_patterns(len(indices))
            errors.append(error)
            if rival is not None and _is_hopeless(errors, rival):
                return Course(tuple(errors), iterate.canvas, is_whole=False)
            if learning is not None and epoch + 1 == _LOOK and not learning.is_worth_it():
                return Course(tuple(errors), iterate.canvas, is_whole=False)
            steps.learn(iterate, error)
        return Course(tuple(errors), iterate.canvas)


def _is_hopeless(errors: list[float], rival: Course) -> bool:
    count = len(errors)
    if not _HOPELESS_AFTER <= count <= len(rival.errors):
        return False
    return errors[-1] > _HOPELESS * rival.errors[count - 1]
