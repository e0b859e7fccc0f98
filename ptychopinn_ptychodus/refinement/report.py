"""What a refinement says of itself after each epoch."""

from __future__ import annotations

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
