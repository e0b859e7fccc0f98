"""What a refinement says of itself: how much is done, a report after each epoch, and what it arrived at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .model import Light, Variation


@dataclass(frozen=True)
class RefinementReport:
    """State of a refinement after one epoch.

    ``error`` sums up the epoch's batches as they came, each before its step, over the counts of the whole
    scan: by amplitudes Σ (√λ - √n)² / Σ n over good pixels, by the likelihood half the deviance in place of
    the numerator. It is by the likelihood for ``metric="poisson"``, and where ``"auto"`` chose that from the
    beginning, see :class:`Refined`. Of an epoch given up half-way it is the sum up to there, of one that
    overflowed the error before it; always finite.
    """

    epoch: int
    nepochs: int
    error: float
    seconds: float
    patterns_per_second: float

    @property
    def seconds_left(self) -> float:
        """Time left at the average speed so far."""
        return self.seconds / self.epoch * (self.nepochs - self.epoch)


class WorkDone:
    """The part of the work that is done, which only grows, even if more work turns up on the way.

    Parameters
    ----------
    total
        Work to do, in any unit above 0.
    on_progress
        Called with the part that is done, 0 to 1, by :meth:`reach`.
    """

    def __init__(self, total: float, on_progress: Callable[[float], None] | None) -> None:
        self._total = total
        self._tell = on_progress
        self._before = self._done = self._fraction = 0.0

    def reach(self, done: float) -> None:
        """So much is done of this part, in the unit of the total; more than the total is the total."""
        done = min(self._before + done, self._total)
        if done > self._done:
            self._fraction += (1.0 - self._fraction) * (done - self._done) / (self._total - self._done)
            self._done = done
        if self._tell is not None:
            self._tell(self._fraction)

    def advance(self, more: float, at_most: float) -> None:
        """So much more is done of this part, which is no more than ``at_most`` in all."""
        self.reach(min(self._done - self._before + more, at_most))

    def begin_part(self, before: float) -> None:
        """Another part begins, before which there is so much work, whether it was as much or not."""
        self._before = before

    def add(self, more: float) -> None:
        """There is more to do: what was told stays, and what is left of the scale has to do for it."""
        self._total += more


@dataclass(frozen=True)
class Refined:
    """What a refinement arrived at.

    Attributes
    ----------
    object
        (H, W) complex64, on the grid of the start; where no pattern shows it, the start itself.
    probe
        (modes, N, N) complex64, ``Σ_m |FFT_ortho(P_m · O)|²`` in counts; modes that were refined are
        orthogonal, the strongest first.
    positions
        (M, 2) float64 [x, y], pixels of the object array; those of the scan, to the bit, if not refined.
    history
        Error of each epoch, see :class:`RefinementReport`.
    start_error, error
        Error of the start, its probe in scale, and of this, both of the whole scan, weighted by ``weights``
        and normalised as the history. ``error <= start_error``, but where ``metric="auto"`` came to follow
        the likelihood, which bettered the start then.
    weights
        (M,) float64, what each pattern counts for, see :class:`.misfits.Misfits`: 1 but for patterns that
        fit far worse than the rest.
    light
        What the beam and the surroundings did: intensities that are not 1 where the beam was unsteady, see
        :mod:`.beam`, and the level of the background, see :mod:`.background`.
    variation
        How the probe, which is the mean one, varies from pattern to pattern, see :mod:`.varying_probe`; its
        shapes as ``probe``, on the host. None: it does not. ``error`` is that of the probe as it varies.
    stopped
        Whether the run was asked to stop.
    metric
        ``"amplitude"`` or ``"poisson"``, by which errors are measured: that of the settings, or the one that
        ``"auto"`` has chosen.
    conjugated
        Whether the probe came of the complex conjugate of the one that it started from, see :mod:`.pupil`: it
        is on the other side of the focus, or the signs of both position axes are wrong. The patterns fit
        alike, and the object is turned by 180 degrees and conjugated in one of the two: say so.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    history: list[float]
    start_error: float
    error: float
    weights: NDArray[np.float64]
    light: Light
    variation: Variation | None
    stopped: bool
    metric: str
    conjugated: bool
