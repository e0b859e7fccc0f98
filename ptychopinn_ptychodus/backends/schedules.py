"""Learning-rate schedules that run through a whole training; the same for every engine."""

from __future__ import annotations

import math
from collections.abc import Callable

COSINE_END = 0.01
ONE_CYCLE_START, ONE_CYCLE_END, ONE_CYCLE_RISE = 0.04, 4e-6, 0.1

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 2
"""The plateau schedule: factor of the rate, after more than so many epochs without an improvement."""


def plateau_floor(learning_rate: float) -> float:
    """Where the plateau schedule ends: at 1e-4, and at a tenth of the first rate if that is lower."""
    return min(0.1 * learning_rate, 1e-4)


def stepwise(scheduler: str, steps: int) -> Callable[[int], float] | None:
    """Factor of the learning rate at each of ``steps`` optimiser steps, counted from 0.

    ``cosine`` falls from 1 to 0.01; ``one_cycle`` rises from 0.04 to 1 in the first tenth and falls to next
    to nothing, both along half cosines (after L. N. Smith and N. Topin, arXiv:1708.07120). None for the
    schedules that do not know their end (``constant``, ``plateau``).
    """
    if scheduler == "cosine":
        return lambda step: _half_cosine(1.0, COSINE_END, step / steps)
    if scheduler == "one_cycle":
        peak = ONE_CYCLE_RISE * steps

        def factor(step: int) -> float:
            if step < peak:
                return _half_cosine(ONE_CYCLE_START, 1.0, step / peak)
            return _half_cosine(1.0, ONE_CYCLE_END, (step - peak) / max(steps - peak, 1))

        return factor
    return None


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2
