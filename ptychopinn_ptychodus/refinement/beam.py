"""How bright the beam was for each pattern, where it was not steady.

A pattern has as many counts as the model gives it, times what the beam had of its usual intensity. An
object that absorbs explains counts that change slowly over the sample, but no counts that jump from one
pattern to those around it: by these an unsteady beam is told from a steady one, whose intensities are all
left at 1. Once it is told, the slow part is the beam's, too, as far as the patterns have it so.

Two things look like such jumps, and are none of the beam's. Where patterns share little light, each has a
part of the object to itself, which absorbs what it likes. And an object that has not been found yet gives
patterns the wrong counts as it gives them the wrong shape: what other intensities would mend is then little
of all that does not fit, and does not last.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..data.overlapping import LEAST_SHARED
from .arrays import LEAST
from .misfits import NORMAL, patterns_around
from .noise import PHOTONS
from .prior import CAUTION

logger = logging.getLogger(__name__)

_UNSTEADY = 5.0
"""Times the scatter that noise, taken with caution, makes; misplaced positions of 3 pixels reach 1.6."""
_PART = 0.1
"""Least part of what noise does not explain of the patterns that other intensities do explain."""
_TOLD_BY = 3
"""Epochs in a row that have to say so, before a beam is held to be unsteady, or steady again."""
_MOST = math.log(2.0)
"""A pattern that is farther off has no beam, or is broken, which its weight tells."""
_LEAST_COUNTS = 1e-12  # of the brightest pattern's: of none, there is no logarithm


class Beam:
    """Intensities of the beam for the patterns of one scan.

    Parameters
    ----------
    positions
        (M, 2) of the patterns, any unit.
    counts
        (M,) Σ n of each pattern.
    shared
        Gives the part of the light of a pattern that falls where others have put light, see
        :func:`.shared_light`. It is called when the beam first seems unsteady, if ever.

    Attributes
    ----------
    intensities
        (M,) float64 over what the scan itself says; all 1 as long as the beam seems steady.
    """

    def __init__(
        self, positions: NDArray[np.float64], counts: NDArray[np.float64], shared: Callable[[], float]
    ) -> None:
        self.intensities = np.ones(len(counts))
        self._shared = cache(shared)
        self._is_unsteady = False
        self._otherwise = 0  # epochs in a row that say otherwise than those before them
        self._counts = np.maximum(counts, _LEAST_COUNTS * counts.max())
        self._around = patterns_around(positions)

    def learn(self, modelled: NDArray[np.float64], noise: float, misfit: float) -> None:
        """Bring the intensities up to date after an epoch.

        Parameters
        ----------
        modelled
            (M,) Σ λ of each pattern, by the present intensities.
        noise
            Variance of a bright pixel's √n, in counts, see :func:`.noise.noise_of_root`.
        misfit
            What the present intensities leave of the error of a pattern beyond what photons leave of it, in
            counts, on average.
        """
        found = np.log(self.intensities) + np.log(self._counts / np.maximum(modelled, LEAST))
        found = np.clip(found - np.median(found), -_MOST, _MOST)
        jumps = found - np.median(found[self._around], axis=1)
        # counts have the variance that photons have, but for a unit: √n has a quarter of it
        by_noise = CAUTION**2 * max(noise, LEAST) / PHOTONS / self._counts
        variance = (NORMAL * float(np.median(np.abs(jumps)))) ** 2
        # Σ(√n - √λ)² of counts that are off by a factor, over Σ n: the square of half its logarithm
        explained = variance / 4.0
        unexplained = misfit / float(np.median(self._counts))
        if not self._is_unsteady:  # it is part of what is left
            unexplained -= explained
        seems_unsteady = (
            variance >= _UNSTEADY**2 * float(np.median(by_noise))
            and explained >= _PART * (explained + max(unexplained, 0.0))
            and self._shared() >= LEAST_SHARED
        )
        self._otherwise = 0 if seems_unsteady == self._is_unsteady else self._otherwise + 1
        if self._otherwise == _TOLD_BY:
            self._is_unsteady, self._otherwise = seems_unsteady, 0
        if not self._is_unsteady:
            self.intensities = np.ones(len(found))
            return
        self.intensities = np.exp(found * (variance / (variance + by_noise)))

    def tell(self) -> None:
        """Say in the log how unsteady the beam was, if it was."""
        spread = float(np.std(np.log(self.intensities)))
        if spread > 0:
            logger.warning(
                "The beam's intensity changes from pattern to pattern, by %.1f %% root mean square, which "
                "object and noise do not explain: each pattern was fitted with its own. If the beamline has "
                "a record of it, give that as the photon counts of the positions.",
                100.0 * spread,
            )
