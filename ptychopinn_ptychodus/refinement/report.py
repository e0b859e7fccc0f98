"""What a refinement says of itself: a report after each epoch, and all the while how much of it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RefinementReport:
    """State of a refinement after one epoch.

    ``error`` sums up the epoch's batches as they came, each before its step, over the counts of the whole
    scan: for ``metric="amplitude"`` and ``"auto"`` Σ (√λ - √n)² / Σ n over good pixels, for ``"poisson"``
    half the deviance in place of the numerator. Of an epoch given up half-way it is the sum up to there, of
    one that overflowed the error before it; always finite.
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
        self._done = self._fraction = 0.0

    def reach(self, done: float) -> None:
        """So much is done since the start, in the unit of the total; more than the total is the total."""
        done = min(done, self._total)
        if done > self._done:
            self._fraction += (1.0 - self._fraction) * (done - self._done) / (self._total - self._done)
            self._done = done
        if self._tell is not None:
            self._tell(self._fraction)

    def add(self, more: float) -> None:
        """There is more to do: what was told stays, and what is left of the scale has to do for it."""
        self._total += more
