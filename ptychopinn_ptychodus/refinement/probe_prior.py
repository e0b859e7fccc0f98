"""What a probe is held by where the counts say little: what it was when the refinement began.

A probe that is free pixel by pixel takes on the noise of the counts: at a hundred photons a pattern, that of
a small scan is as strong as the probe itself, and the object is fitted to it. So what the probe has become
beyond what it began with is taken for Gaussian random numbers, whose variance depends on the length of the
spatial frequency and is learnt from them, less what noise makes of it (empirical Bayes, as for the object and
the positions, see :mod:`.prior`). Where all of it can be noise, as outside of the pupil, the probe goes back
to what it was; where it is far beyond noise, nothing holds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arrays import LEAST, Array, Arrays
from .noise import PHOTONS, noise_of_root
from .prior import CAUTION, HASTE

_LEAST_POWER = 1e-6  # of the noise
_LEAST_KNOWN = 1e-6


class ProbePrior:
    """Power of a probe's changes by spatial frequency, of each mode.

    Parameters
    ----------
    mean
        (N, N) mean pattern in counts, zero frequency at (N/2, N/2), zero on bad pixels.
    start
        (modes, N, N) probe that steps begin with, as :class:`.iterate.Iterate` has it. Its scale and its
        phase are not held: the object shares them.
    arrays
        The library to work with.
    """

    def __init__(self, mean: NDArray[np.float64], start: Array, arrays: Arrays) -> None:
        self._mean = mean
        self._arrays = arrays
        self._start = arrays.copy(start)
        y, x = np.indices(mean.shape) - len(mean) // 2
        self._rings = np.hypot(y, x).astype(np.intp)
        self._sizes = np.bincount(self._rings.ravel())
        self._power: NDArray[np.float64] | None = None
        self._hold: Array | None = None

    def learn(self, probe: Array, object_power: float, error: float) -> None:
        """After an epoch: how strong the probe's changes are.

        Parameters
        ----------
        probe
            (modes, N, N).
        object_power
            ``Σ_k e_k |O_k|²`` of the whole scan, where it is strongest under the probe.
        error
            Mean error of a pattern, in counts.
        """
        noise = min(noise_of_root(self._mean, error), PHOTONS)
        known = self._of_rings(self._mean / (self._mean + 4.0 * noise))
        of_one = noise / max(object_power, LEAST)
        # the modulus of the far field shows half of a change, which has a real and an imaginary part
        variance = 4.0 * CAUTION * of_one / np.maximum(known, _LEAST_KNOWN)
        change = self._arrays.fft(probe - self._unchanged(probe))
        power = np.stack([self._of_rings(one) for one in np.abs(self._arrays.get(change)) ** 2])
        if self._power is None:
            power = power - variance
        else:
            kept = self._power / (self._power + variance)
            power = power / np.maximum(kept, _LEAST_POWER) ** HASTE
        self._power = np.maximum(power, _LEAST_POWER * of_one)
        hold = (2.0 * of_one / self._power)[:, self._rings]
        self._hold = self._arrays.put(hold.astype(np.float32))

    def held(self, probe: Array, step: float) -> Array:
        """The proximal step of the prior: a probe after a gradient step of that length, a new array.

        ``step`` is the gradient step times the power of the object.
        """
        if self._hold is None:
            return probe
        unchanged = self._unchanged(probe)
        spectrum = self._arrays.fft(probe - unchanged)
        return unchanged + self._arrays.ifft(spectrum / (1.0 + step * self._hold))

    def _unchanged(self, probe: Array) -> Array:
        """The start times the factor that brings it nearest to the probe."""
        start, xp = self._start, self._arrays.xp
        return start * ((xp.conj(start) * probe).sum() / (abs(start) ** 2).sum())

    def _of_rings(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(self._rings.ravel(), values.ravel()) / self._sizes)
