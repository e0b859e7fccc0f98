"""How many epochs a refinement takes: as many as it may, or fewer once only the noise of photons is left.

More epochs bring what is slow, such as a strong object or positions that are far off. Once the error is near
what the noise of photons leaves, further ones fit that noise: they bring a probe and an object that were good
before nearer to it, and the bias of few counts. So from the epoch on at which the noise is reached, there are
as many more, of shrinking steps, as it took to get there, and no more.

Patterns held out tell less. Their error is that of an estimate that follows the last batches, and so falls as
long as the steps shrink: the last epoch always has the least, whether the object got worse on the way or not.
"""

from __future__ import annotations

import math

STEADY = 0.5
"""Part of the epochs that has full steps."""

_SOON = 5
"""Epochs after which the error says how near the noise it can come, even if many more are to follow."""
_LAST_STEP = 0.02  # of a full one


class Schedule:
    """Epochs of one refinement.

    Parameters
    ----------
    most
        Epochs at most.

    Attributes
    ----------
    epochs
        How many there are, by what is known now.
    """

    def __init__(self, most: int) -> None:
        self.epochs = most

    def is_late(self, done: int) -> bool:
        """Whether after so many epochs the error can tell if the noise is reached."""
        return done >= min(math.ceil(STEADY * self.epochs), _SOON)

    def wind_down(self, done: int) -> None:
        """The noise is reached after so many epochs: the rest are no more than that."""
        self.epochs = min(self.epochs, math.ceil(done / STEADY))

    def step(self, done: float) -> float:
        """Part of a full step when so many epochs are done."""
        return decay(done / self.epochs)


def decay(done: float) -> float:
    """Part of a full step when that part of the work is done."""
    return 1.0 if done < STEADY else _LAST_STEP + (1.0 - _LAST_STEP) * (1.0 - done) / (1.0 - STEADY)
