"""What a refinement says of itself: how much is done, a report after each epoch, and what it arrived at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .iterate import Light, Variation


@dataclass(frozen=True)
class RefinementReport:
    """State of a refinement after one epoch.

    Where positions are searched for after the last epoch, there are as many again, and ``epoch`` counts on.
    ``seconds`` are those of the epochs alone.

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

    The unit is whatever its parts are measured in. What is known to come is reserved, so that what is done
    does not seem to be all; then each part begins, in order.

    Parameters
    ----------
    on_progress
        Called with the part that is done, 0 to 1, by :meth:`reach`.
    """

    def __init__(self, on_progress: Callable[[float], None] | None) -> None:
        self._tell = on_progress
        self._total = self._reserved = 0.0
        self._before = self._done = self._fraction = 0.0

    def reserve(self, more: float) -> None:
        """A part will begin later that has so much work."""
        self._total += more
        self._reserved += more

    def begin_part(self, work: float) -> None:
        """The next part begins, and what is before it is done, whether it was as much or not."""
        self._before = self._total - self._reserved
        self._total += max(work - self._reserved, 0.0)
        self._reserved = max(self._reserved - work, 0.0)

    def reach(self, done: float) -> None:
        """So much of this part is done; more than it has is all of it."""
        self._reach(min(self._before + done, self._total - self._reserved))

    @property
    def done(self) -> float:
        """So much of this part is done."""
        return max(self._done - self._before, 0.0)

    def advance(self, more: float) -> None:
        """So much more of this part is done."""
        self.reach(self.done + more)

    def add(self, more: float) -> None:
        """There is more to do in this part: what was told stays, and the rest of the scale is for it."""
        self._total += more

    def end(self) -> None:
        """Everything is done, and what was reserved was not needed."""
        self._reserved = 0.0
        self._done, self._fraction = self._total, 1.0
        self._reach(self._total)

    def _reach(self, done: float) -> None:
        if done > self._done:
            self._fraction += (1.0 - self._fraction) * (done - self._done) / (self._total - self._done)
            self._done = done
        if self._tell is not None:
            self._tell(self._fraction)


class EpochReports:
    """Reports of epochs, which count on if a refinement begins again from other positions.

    Parameters
    ----------
    on_epoch
        Called with each report.

    Attributes
    ----------
    history
        The errors that were reported.
    """

    def __init__(self, on_epoch: Callable[[RefinementReport], None] | None) -> None:
        self._on_epoch = on_epoch
        self.history: list[float] = []
        self._seconds, self._patterns = 0.0, 0

    def tell(self, error: float, left: int, seconds: float, patterns: int) -> None:
        """An epoch came to its end that took so many seconds for so many patterns; so many are left."""
        self.history.append(error)
        self._seconds += seconds
        self._patterns += patterns
        if self._on_epoch is not None:
            done, speed = len(self.history), self._patterns / max(self._seconds, 1e-9)
            self._on_epoch(RefinementReport(done, done + left, error, self._seconds, speed))


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
        Error of each epoch, see :class:`RefinementReport`; where it began again from positions that were
        searched for, those of the epochs before as well.
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
    searched
        How far positions were moved, pixels root mean square, where they were searched for, see
        :mod:`.position_search`; else 0. A fit that is better there is no proof of them: say so.
    denoised
        Whether the object is held by itself without its noise, see :mod:`.denoising`: say so.
    kept_start
        Whether it is the start, which no estimate was better than: say so. An ``error`` that is larger than
        ``start_error`` does not tell, see there.
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
    searched: float = 0.0
    denoised: bool = False
    kept_start: bool = False
