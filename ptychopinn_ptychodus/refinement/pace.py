"""How quickly a refinement of many epochs may change what follows noise: the object's spectrum and the probe.

More epochs are to bring what is slow, such as a strong object or positions that are far off. What is quick is
settled after a few, and every further epoch fits it to the noise of the counts: the power that the object is
held by, learnt from an object that is already held by it, falls with each time that it is learnt; and a step
of the probe by a batch of few patterns carries their noise into a probe that was right before. So the power
goes as far as in the usual number of epochs, in smaller parts; and the probe's steps get shorter, down to
those that the object takes with as few patterns.
"""

from __future__ import annotations

import math

USUAL_EPOCHS = 10
"""Up to so many, nothing is slowed down: each epoch has to bring what it can."""

FULL_BATCH = 40
"""Patterns for a step of full length."""


def pace(epochs: int) -> float:
    """Part of what an epoch of a short refinement changes that one of so many may, above 0 and 1 at most."""
    return min(1.0, USUAL_EPOCHS / max(epochs, 1))


def step_by_few(patterns: float) -> float:
    """Length of a step by so many patterns, on average: with few it follows their noise; 1 at most."""
    return min(1.0, math.sqrt(patterns / FULL_BATCH))


def probe_step(patterns: float, epochs: int) -> float:
    """Length of a step of the probe by so many patterns, in a refinement of so many epochs; 1 at most.

    A probe that starts wrong has to get right in few epochs, whatever their noise; with more, there is time.
    """
    return max(step_by_few(patterns), pace(epochs))
