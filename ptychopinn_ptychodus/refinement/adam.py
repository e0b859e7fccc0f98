"""Steps of a few coefficients that learn together with an object (Kingma & Ba, arXiv 1412.6980)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEAN, _SQUARE = 0.9, 0.97  # what the averages keep of themselves


class Adam:
    """Steps of the length of the rate where gradients agree, and shorter ones where they do not.

    Parameters
    ----------
    values
        Any shape, float64; steps change them in place.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values
        self._mean, self._square = np.zeros_like(values), np.zeros_like(values)
        self._steps = 0

    def step(self, gradient: NDArray[np.float64], rate: float) -> None:
        """One step against a gradient of the values' shape."""
        self._steps += 1
        self._mean += (1 - _MEAN) * (gradient - self._mean)
        self._square += (1 - _SQUARE) * (gradient**2 - self._square)
        mean = self._mean / (1 - _MEAN**self._steps)
        size = np.sqrt(self._square / (1 - _SQUARE**self._steps))
        self._values -= rate * np.divide(mean, size, out=np.zeros_like(mean), where=size > 0)
