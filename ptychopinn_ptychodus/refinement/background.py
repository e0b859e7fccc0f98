"""Light on every pattern that comes from no exit wave: scatter of the air, stray light, a detector's offset.

It is taken for the same on all pixels and patterns. It is learnt far from the beam, in the quarter of the
good pixels that is farthest from the zero frequency: the model gives little there, and an object that had to
explain it would be one of noise. It starts from all that is there, which is the most that it can be, and goes
on by Fisher's scoring, so that what the object comes to explain is taken from it again.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from .arrays import LEAST
from .model import far_pixels

logger = logging.getLogger(__name__)

_WORTH_TELLING = 1e-3  # of the patterns' light


class Background:
    """The background of one scan.

    Parameters
    ----------
    mean
        (N, N) mean pattern in counts, zero frequency at (N/2, N/2), zero on bad pixels.
    good
        (N, N) bool, the pixels that count.

    Attributes
    ----------
    level
        Counts a pixel and pattern, 0 or more.
    """

    def __init__(self, mean: NDArray[np.float64], good: NDArray[np.bool_]) -> None:
        self._most = float(mean.ravel()[far_pixels(good)].mean())
        self._part = float(good.sum() / max(mean[good].sum(), LEAST))
        self._begun = False
        self.level = 0.0

    def learn(self, excess: float, certainty: float) -> None:
        """Bring the level up to date after an epoch.

        Parameters
        ----------
        excess, certainty
            Sums over the scan of those of :class:`.model.Gradients`.
        """
        if not self._begun:
            self._begun, self.level = True, self._most
        elif self.level > 0:
            step = excess / max(certainty, LEAST)
            self.level = float(np.clip(np.nan_to_num(self.level + step), 0.0, self._most))

    def tell(self) -> None:
        """Say in the log how much of the patterns is background, if it matters."""
        if self.level * self._part > _WORTH_TELLING:
            logger.warning(
                "The patterns hold a background of %.3g counts a pixel, %.2g %% of their light: it was "
                "fitted along with the object, and is no part of the probe and the object that are found.",
                self.level,
                100.0 * self.level * self._part,
            )
