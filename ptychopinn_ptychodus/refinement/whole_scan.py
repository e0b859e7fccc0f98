"""The most probable object given all patterns at once, its probe and positions held.

Steps by batches are divided by the illumination, which is right for the object's details. Its phase at large
scales changes the patterns little, all the less the larger the scale: those steps approach it slowly, the
batches' noise hides it, and its power, which :class:`.ObjectPrior` learns, comes out too low. Here the object
is solved for by L-BFGS (Liu & Nocedal, Math. Program. 45, 503, 1989) on the whole scan, in coordinates in which
the prior is white: frequencies of much power, which are the low ones, get long steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.optimize
from numpy.typing import NDArray

from .arrays import Array, Arrays
from .model import Iterate, ScanModel
from .prior import ObjectPrior

_MEMORY = 20  # steps whose gradients are remembered


def most_probable(
    model: ScanModel,
    arrays: Arrays,
    iterate: Iterate,
    prior: ObjectPrior,
    weights: NDArray[np.float64],
    steps: int,
    should_stop: Callable[[], bool] | None = None,
) -> Array:
    """The canvas after ``steps`` steps from that of ``iterate``, a new array.

    Parameters
    ----------
    model
        The scan; its gradients are not limited, see :class:`.ScanModel`.
    prior
        Has learnt from the canvas.
    weights
        (M,) of the patterns.
    """
    scan = np.arange(len(iterate.positions))
    field = prior.white_field(arrays.get(iterate.canvas))
    shape = (2, *iterate.canvas.shape)

    def canvas(white: NDArray[np.float64]) -> NDArray[np.complex64]:
        return field.canvas(white.reshape(shape))

    def cost(white: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        tried = Iterate(arrays.put(canvas(white)), iterate.probe, iterate.positions)
        found = model.gradients(tried, scan, probe=False, positions=False, weights=weights)
        # errors are half of the negative logarithm of the likelihood
        slope = field.slope(4.0 * arrays.get(found.canvas)).ravel()
        value = 2.0 * float(weights @ found.errors) + 0.5 * float(white @ white)
        return value, slope + white

    def ask(_: NDArray[np.float64]) -> None:
        if should_stop is not None and should_stop():
            raise StopIteration

    found = scipy.optimize.minimize(
        cost,
        field.start.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=ask,
        options={"maxiter": steps, "maxcor": _MEMORY, "ftol": 0.0, "gtol": 0.0},
    )
    return arrays.put(canvas(found.x))
