"""Light on every pattern that comes from no exit wave: scatter of the air, stray light, a detector's offset.

It is taken for the same on all pixels and patterns. It is learnt far from the beam, in the quarter of the
good pixels that is farthest from the zero frequency: the model gives little there, and an object that had to
explain it would be one of noise. It starts from all that is there, which is the most that it can be, if that
is worth it, and goes on by Fisher's scoring, so that what the object explains is taken from it again.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .arrays import LEAST
from .model import FarPixels

logger = logging.getLogger(__name__)

_WORTH_FITTING = 0.01
"""Of the mean counts of a pixel, where steps go by amplitudes. Edges of an object scatter some thousandths so
far; and amplitudes of few counts fit best below their mean: a small background makes their fit worse."""
_TRIMMED = 0.25  # of the patterns at either end, some of which may be broken
_WORTH_TELLING = 0.005  # of the mean counts of a pixel


class Background:
    """The background of one scan.

    Parameters
    ----------
    far_counts
        (M,) mean counts of a pixel far from the beam, of each sound pattern.
    light
        Mean counts of any good pixel.

    Attributes
    ----------
    level
        Counts a pixel and pattern, 0 or more.
    """

    def __init__(self, far_counts: NDArray[np.float64], light: float) -> None:
        self._most = float(stats.trim_mean(far_counts, _TRIMMED))
        self._light = max(light, LEAST)
        self._begun = False
        self.level = 0.0

    @property
    def part(self) -> float:
        """Of the patterns' light."""
        return self.level / self._light

    def begin(self, at_any_level: bool = False) -> None:
        """Take all that is there for background, if it is worth it."""
        self._begun = True
        self.level = self._most if at_any_level or self._most >= _WORTH_FITTING * self._light else 0.0

    def learn(self, far: FarPixels) -> None:
        """Bring the level up to date after an epoch; ``far`` is the sum over all patterns."""
        if not self._begun:
            self.begin()
        elif self.level > 0:
            step = far.excess / max(far.certainty, LEAST)
            self.level = float(np.clip(np.nan_to_num(self.level + step), 0.0, self._most))

    def tell(self) -> None:
        """Say in the log how much of the patterns is background, if it matters."""
        if self.part > _WORTH_TELLING:
            logger.warning(
                "The patterns hold a background of %.3g counts a pixel, %.2g %% of their light: it was "
                "fitted along with the object, and is no part of the probe and the object that are found.",
                self.level,
                100.0 * self.part,
            )
