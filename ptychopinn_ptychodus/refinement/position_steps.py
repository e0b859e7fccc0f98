"""Steps of the positions, which are held where they were recorded as far as the patterns do not tell them.

A step divides the slope of the error by its curvature (Gauss-Newton). Where counts are few or the object is
weak, it follows their noise, and the object with it, since a smooth displacement of all positions and the
same distortion of the object hardly change a pattern. So the displacements of all positions are taken for
Gaussian random numbers, of a variance that is learnt from them, less what noise makes of it (empirical Bayes;
MacKay, Neural Comput. 4, 415, 1992). Where all displacements can be noise, the variance falls with each epoch
and positions go back to where they were recorded; where they are far beyond it, nothing holds them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arrays import LEAST
from .config import RefinementConfig
from .gradients import Gradients
from .noise import noise_of_root
from .prior import CAUTION, HASTE

_CURVATURE_FLOOR = 0.05  # of the batch's mean: where the object is flat, nothing tells a position
_LEAST_VARIANCE = 0.01
"""Of the variance that noise makes: wrong positions that show only later can still get away."""


class PositionSteps:
    """Steps of the positions of one scan, batch after batch.

    Parameters
    ----------
    start
        (M, 2) [x, y] where they start, pixels of the canvas.
    config
        Length of the steps, and how far they may lead.
    mean
        (N, N) mean pattern in counts, as :meth:`.model.ScanModel.mean_counts` has it.
    """

    def __init__(
        self, start: NDArray[np.float64], config: RefinementConfig, mean: NDArray[np.float64]
    ) -> None:
        self._start = start
        self._config = config
        self._mean = mean
        self._curvature = np.full_like(start, np.nan)
        self._variance: NDArray[np.float64] | None = None
        self._hold = np.zeros(2)

    def step(
        self,
        positions: NDArray[np.float64],
        gradients: Gradients,
        indices: NDArray[np.int64],
        rate: float,
    ) -> None:
        """One step of the positions of a batch, in place; ``positions`` are those of all patterns, (M, 2)."""
        config = self._config
        assert gradients.positions is not None
        assert gradients.curvature is not None
        self._curvature[indices] = gradients.curvature
        curvature = gradients.curvature + _CURVATURE_FLOOR * gradients.curvature.mean()
        origin = self._start[indices]
        slope = gradients.positions + self._hold * (positions[indices] - origin)
        step = -rate * config.position_step * slope / np.maximum(curvature + self._hold, LEAST)
        limit, reach = config.position_limit, config.position_range
        # NaN is for the epoch's check to find; a position cannot be one
        moved = positions[indices] + np.nan_to_num(np.clip(step, -limit, limit))
        positions[indices] = np.clip(moved, origin - reach, origin + reach)

    def keep_mean(self, positions: NDArray[np.float64]) -> None:
        """Take back, in place, what all positions have moved by: the object may move as well."""
        reach = self._config.position_range
        positions -= (positions - self._start).mean(axis=0)
        np.clip(positions, self._start - reach, self._start + reach, out=positions)

    def learn(self, positions: NDArray[np.float64], error: float) -> None:
        """After an epoch: how far off positions are; ``error`` is the mean of a pattern, in counts.

        With σ² the variance of a pixel's √n, the patterns know a displacement to 2 σ² over the curvature: no
        more than half of what moving the object changes shows in the moduli of the far field.
        """
        noise = CAUTION * noise_of_root(self._mean, error)
        # where the object is flat, or all noise, the patterns tell nothing, and steps have no other bound
        most = self._config.position_range**2
        if np.isnan(self._curvature).any():
            self._hold = np.full(2, noise / most)
            return
        known = self._curvature / max(2.0 * noise, LEAST)
        moved = ((positions - self._start) ** 2).mean(axis=0)
        signal = known * (moved if self._variance is None else self._variance)
        kept = (signal / (1.0 + signal)).mean(axis=0)
        least = _LEAST_VARIANCE / np.maximum(known.mean(axis=0), LEAST)
        found = np.maximum(moved / np.maximum(kept, LEAST) ** HASTE, least)
        self._variance = np.minimum(found, most)
        self._hold = noise / self._variance
