"""Light on every pattern that comes from no exit wave: scatter of the air, stray light, a detector's offset.

It is taken for the same on all pixels and patterns. It is learnt far from the beam, in the quarter of the
good pixels that is farthest from the zero frequency: the model gives little there, and an object that had to
explain it would be one of noise. What the object scatters there changes from pattern to pattern, as speckle
does, by about as much as there is; a background does not, but for the noise of photons. So it starts from the
mean counts, less what changes, what is not even, and what the probe puts there without an object. That is the
most that it can be. If it is worth it, it goes on by Fisher's scoring, so that what the object explains is
taken from it again.
"""

from __future__ import annotations

import logging
import math

import numpy as np
from numpy.typing import NDArray

from .arrays import LEAST, Array
from .gradients import FarPixels
from .misfits import NORMAL
from .model import ScanModel

logger = logging.getLogger(__name__)

_WORTH_FITTING = 0.01
"""Of the mean counts of a pixel, where steps go by amplitudes. Edges of an object scatter some thousandths so
far; and amplitudes of few counts fit best below their mean: a small background makes their fit worse."""
_BROKEN = 6.0  # standard deviations of a pattern's counts far from the beam
_SURE = 2.0  # standard errors
_WORTH_TELLING = 0.005  # of the mean counts of a pixel


class Background:
    """The background of one scan.

    Parameters
    ----------
    most
        Counts of a pixel that it can be at most, see :func:`most_background`.
    light
        Mean counts of any good pixel.

    Attributes
    ----------
    level
        Counts a pixel and pattern, 0 or more.
    """

    def __init__(self, most: float, light: float) -> None:
        self._most = most
        self._light = max(light, LEAST)
        self._begun = False
        self.level = 0.0

    @property
    def part(self) -> float:
        """Of the patterns' light."""
        return self.level / self._light

    def begin(self, at_any_level: bool = False) -> None:
        """Take the most that it can be, if that is worth it."""
        self._begun = True
        self.level = self._most if at_any_level or self._most >= _WORTH_FITTING * self._light else 0.0

    def learn(self, far: FarPixels) -> None:
        """Bring the level up to date after an epoch; ``far`` is the sum over the scan."""
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


def most_background(model: ScanModel, probe: Array, patterns: NDArray[np.int64], per_photon: float) -> float:
    """Counts of a pixel far from the beam that are the same there in all of these patterns, at most.

    Speckle of a mean s has a standard deviation of s (Goodman, J. Opt. Soc. Am. 66, 1145, 1976), and photons
    have a variance of their mean. What the probe puts there without an object is no background, nor is what
    is not even: a pupil may reach so far.

    Parameters
    ----------
    model
        The scan.
    probe
        (modes, N, N) as :class:`.iterate.Iterate` has it, in scale.
    patterns
        Numbers of those that are sound.
    per_photon
        Counts of a photon, see :func:`.noise.counts_per_photon`.
    """
    means = np.array([counts.mean() for counts in model.far_counts(patterns)])
    off = np.abs(means - np.median(means))
    ordinary = patterns[off <= _BROKEN * NORMAL * np.median(off)]
    count = len(ordinary)
    if count < 2:
        return 0.0
    total: NDArray[np.float64] = np.zeros(1)
    squares: NDArray[np.float64] = np.zeros(1)
    for counts in model.far_counts(ordinary):
        total, squares = total + counts, squares + counts**2
    mean = total / count
    variance = (squares - total * mean) / (count - 1)
    changing = _surely(variance - per_photon * mean)
    uneven = _surely((mean - mean.mean()) ** 2 - variance / count)
    return max(float(mean.mean()) - model.far_light(probe) - math.sqrt(changing) - math.sqrt(uneven), 0.0)


def _surely(values: NDArray[np.float64]) -> float:
    """What the mean is above 0 by at least, as far as it is more than an accident."""
    return max(float(values.mean()) - _SURE * float(values.std()) / math.sqrt(len(values)), 0.0)
