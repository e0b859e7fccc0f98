"""Positions that belong to other frames from some frame on, because one was lost or came too often.

Where positions are taken by their order, one that is lost gives each later frame the position of its
successor. Clocks of detector and encoders that disagree differ by the same time, or nearly, from frame to
frame; where the difference jumps, and stays, a position is missing or there is one too many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..formatting import counted

_AROUND = 5  # pairs on either side of a jump, whose usual difference is compared
_LEAST_AFTER = 2
_JUMP = 0.5  # of the interval between frames
_STEADY = (
    0.25  # of it: the usual change of the difference, beyond which clocks have nothing to do with frames
)
_LEAST = 4  # pairs, of which any can be told


@dataclass(frozen=True)
class Shift:
    """From some frame on, positions belong to other frames.

    Attributes
    ----------
    first
        Number of the first of these frames.
    by
        How many positions are lost just before it; below 0, how many are there too many.
    """

    first: int
    by: int

    def in_words(self) -> str:
        """One sentence for people."""
        if self.by > 0:
            what, whose = "lost", "after"
        else:
            what, whose = "too many", "before"
        count = abs(self.by)
        are = "is" if count == 1 else "are"
        frames = "the frame" if count == 1 else f"{count} frames"
        return (
            f"{counted(count, 'position')} {are} {what}: from frame {self.first} on, each frame has the "
            f"position of {frames} {whose} it."
        )


def are_comparable(frames_s: NDArray[np.float64], positions_s: NDArray[np.float64]) -> bool:
    """Whether the times of frames and positions, pair by pair, (M,), tell which belong together.

    They do not where positions have no times of their own, as those that are stamped when they are sent.
    """
    known = ~np.isnan(frames_s)
    frames, positions = frames_s[known], positions_s[known]
    if len(frames) < _LEAST or not (np.diff(frames) > 0).all() or not (np.diff(positions) > 0).all():
        return False
    usual = float(np.median(np.abs(np.diff(positions - frames))))
    return usual < _STEADY * float(np.median(np.diff(frames)))


def first_shift(
    frames_s: NDArray[np.float64], positions_s: NDArray[np.float64], *, is_last: bool = False
) -> Shift | None:
    """The first place where the clocks' difference jumps, and stays; its ``first`` counts from 0.

    Parameters
    ----------
    frames_s
        Times of frames in their order, NaN for those that never came; there may be more than positions.
    positions_s
        Times of the positions that these frames have, (M,).
    is_last
        Whether no more are to come; before, a jump waits for some pairs behind it.
    """
    count = min(len(frames_s), len(positions_s))
    if not are_comparable(frames_s[:count], positions_s[:count]):
        return None
    (known,) = np.nonzero(~np.isnan(frames_s[:count]))
    (all_known,) = np.nonzero(~np.isnan(frames_s))
    frames, positions = frames_s[known], positions_s[known]
    difference = positions - frames
    least = _JUMP * float(np.median(np.diff(frames)))
    after = _LEAST_AFTER if is_last else _AROUND
    for at in np.flatnonzero(np.abs(np.diff(difference)) > least).tolist():
        if at + 1 + after > len(frames):
            return None
        before = float(np.median(difference[max(at + 1 - _AROUND, 0) : at + 1]))
        behind = slice(at + 1, at + 1 + _AROUND)
        # in the frames' time, where these positions were reported; and the frames that were taken then
        nearest = np.abs(frames_s[all_known] - (positions[behind] - before)[:, None]).argmin(1)
        by = int(np.median(all_known[nearest] - known[behind]))
        if by != 0:
            return Shift(int(known[at + 1]), by)
    return None
