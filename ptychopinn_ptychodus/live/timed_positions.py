"""Positions that encoders report apart from the frames: x and y as series, each value with its time."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..formatting import counted
from .position_shifts import Shift, are_comparable, first_shift

BY = ("time", "order")

_INTERVALS = 1000  # between frames, of which the usual one is the median
_PAIRS = 1000  # of frames and positions, the newest ones, of which the times are compared
_DOUBTFUL = 0.5  # of the tolerance: usual differences beyond it come from clocks that disagree


@dataclass
class _Series:
    """The values of one axis, by time."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, times: Sequence[float], values: Sequence[float], *, by_time: bool) -> None:
        for time, value in zip(map(float, times), map(float, values), strict=True):
            at = bisect.bisect_right(self.times, time) if by_time else len(self.times)
            self.times.insert(at, time)
            self.values.insert(at, value)

    def nearest(self, time: float) -> tuple[float, float]:
        """Value and time of what was reported nearest to a time; NaN and infinity if nothing was."""
        at = bisect.bisect_left(self.times, time)
        near = [number for number in (at - 1, at) if 0 <= number < len(self.times)]
        if not near:
            return math.nan, math.inf
        best = min(near, key=lambda number: abs(self.times[number] - time))
        return self.values[best], self.times[best]

    @property
    def newest(self) -> float:
        return self.times[-1] if self.times else -math.inf


class TimedPositions:
    """Which frame was taken where.

    By time, a frame has the values that were reported nearest to its own time, where that is within half of
    the usual interval between frames: further away it would be another frame's. By order, the first value
    belongs to the frame number ``first``, and each further one to the next number. One that is lost would
    shift all later ones: where both have times, however much their clocks differ, that is found.

    Parameters
    ----------
    by
        One of :data:`BY`: by time, if detector and encoders have one clock; else by order.
    first
        See there; None: 1, and nobody has said so.

    Attributes
    ----------
    by
        See there.
    knows_first
        Whether the first number is a given one.
    shifts
        By order, where positions were lost, or came too often, as far as times tell.

    Raises
    ------
    ValueError
        If ``by`` is neither.

    Examples
    --------
    >>> positions = TimedPositions()
    >>> for number, time in ((1, 10.0), (2, 10.1), (3, 10.2)):
    ...     positions.frame(number, time)
    >>> positions.add(0, [1.0, 2.0, 3.0], [10.0, 10.11, 10.2])
    >>> positions.add(1, [5.0, 5.0, 5.0], [10.0, 10.11, 10.2])
    >>> numbers, where = positions.found()
    >>> numbers, where.tolist()
    ([1, 2, 3], [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    """

    def __init__(self, by: str = "time", first: int | None = None) -> None:
        if by not in BY:
            raise ValueError(f"positions by {by!r} are not possible: use one of {', '.join(map(repr, BY))}.")
        self.by, self._first, self.knows_first = by, 1 if first is None else first, first is not None
        self.shifts: tuple[Shift, ...] = ()
        self._axes = (_Series(), _Series())
        self._frames: dict[int, float] = {}  # those that have no position yet
        self._newest: deque[float] = deque(maxlen=_INTERVALS)
        self._differences: list[float] = []
        self._given = 0
        self._times: dict[int, float] = {}  # by order: of all frames
        self._looked = self._look_from = 0  # pairs

    def add(self, axis: int, values: Sequence[float], times: Sequence[float]) -> None:
        """Take values of x (``axis`` = 0) or y (1), and their times in seconds.

        Raises
        ------
        ValueError
            If there is not one time for each value.
        """
        if len(values) != len(times):
            raise ValueError(
                f"{len(values)} values of {'xy'[axis]} came with {len(times)} times: each needs its own."
            )
        self._axes[axis].add(times, values, by_time=self.by == "time")

    def frame(self, number: int, time: float) -> None:
        """Take note of the time at which a frame was taken, seconds."""
        if self.by == "order":
            self._times.setdefault(number, time)
            return
        self._newest.append(time)
        self._frames[number] = time

    def found(self, *, is_last: bool = False) -> tuple[list[int], NDArray[np.float64]]:
        """Frames whose position is known since the last call: numbers, and [x, y] as (B, 2), as reported.

        Parameters
        ----------
        is_last
            Whether no values are to come any more; before, a frame waits for later ones than its own time.
        """
        if self.by == "time":
            return self._by_time(is_last)
        found = self._by_order()
        self._look_for_shifts(is_last)
        return found

    def lacking(self) -> int:
        """By order, how many positions there are fewer than frames came, up to the last; below 0: more."""
        if self.by == "time" or not self._times:
            return 0
        return max(self._times) - self._first + 1 - self._given

    def lacking_in_words(self) -> str:
        """The same for people; empty if there is a position for each frame."""
        lacking = self.lacking()
        if not lacking:
            return ""
        return (
            f"{counted(self._given, 'position')} came for the frames {self._first} to {max(self._times)}: "
            f"{abs(lacking)} {'fewer' if lacking > 0 else 'more'} than there are frames."
        )

    @property
    def times_tell(self) -> bool:
        """By order, whether times of frames and positions can be compared, so that shifts are found."""
        return are_comparable(self._frame_times(0, self._given), self._position_times(0, 0, self._given))

    def _frame_times(self, start: int, stop: int) -> NDArray[np.float64]:
        numbers = range(self._first + start, self._first + stop)
        return np.array([self._times.get(number, math.nan) for number in numbers])

    def _position_times(self, axis: int, start: int, stop: int) -> NDArray[np.float64]:
        return np.array(self._axes[axis].times[start:stop])

    def _look_for_shifts(self, is_last: bool) -> None:
        """Compare the times of what is new; where they jump, go on from there."""
        if self._given == self._looked and not is_last:
            return
        self._looked = self._given
        while (shift := self._next_shift(is_last)) is not None:
            self.shifts += (shift,)
            self._look_from = shift.first - self._first

    def _next_shift(self, is_last: bool) -> Shift | None:
        start = max(self._look_from, self._given - _PAIRS)
        found_so_far = sum(shift.by for shift in self.shifts)  # which need not be found once more
        # frames beyond those that have positions: to them, positions may belong
        last = max(self._times, default=0) - self._first + 1
        frames = self._frame_times(start + found_so_far, max(self._given + found_so_far, last))
        for axis in (0, 1):
            found = first_shift(frames, self._position_times(axis, start, self._given), is_last=is_last)
            if found is not None:
                return Shift(self._first + start + found.first, found.by)
        return None

    def _by_order(self) -> tuple[list[int], NDArray[np.float64]]:
        x, y = (series.values for series in self._axes)
        some = slice(self._given, min(len(x), len(y)))
        numbers = [self._first + number for number in range(some.start, max(some.stop, some.start))]
        self._given += len(numbers)
        return numbers, np.array([x[some], y[some]], np.float64).T.reshape(-1, 2)

    def _by_time(self, is_last: bool) -> tuple[list[int], NDArray[np.float64]]:
        until = math.inf if is_last else min(series.newest for series in self._axes)
        tolerance = self.tolerance
        numbers, where = [], []
        for number, time in [(each, time) for each, time in self._frames.items() if time <= until]:
            (x, x_time), (y, y_time) = (series.nearest(time) for series in self._axes)
            difference = max(abs(x_time - time), abs(y_time - time))
            if difference <= tolerance:
                numbers.append(number)
                where.append((x, y))
                self._differences.append(difference)
                del self._frames[number]
        return numbers, np.array(where, np.float64).reshape(-1, 2)

    @property
    def tolerance(self) -> float:
        """Seconds by which a value's time may differ from a frame's."""
        intervals = np.diff(np.unique(self._newest))  # in any order, and some frames come twice
        return float(np.median(intervals)) / 2 if len(intervals) else 0.0

    def sentences(self) -> list[str]:
        """What a person has to know of how frames and positions go together; empty if they do."""
        counts = [len(series.values) for series in self._axes]
        said = []
        if counts[0] != counts[1]:
            said.append(
                f"{counts[0]} values of x came, and {counts[1]} of y: a frame needs both, of the same time."
            )
        if self.by == "time" and any(counts):
            clocks = "If detector and encoders have clocks of their own, have positions taken by order."
            usual = float(np.median(self._differences)) if self._differences else 0.0
            if usual > _DOUBTFUL * self.tolerance:
                said.append(
                    f"Frames and their positions are usually {usual:.3g} s apart, and frames "
                    f"{2 * self.tolerance:.3g} s: neighbours may be mixed up. {clocks}"
                )
            if self._frames:
                said.append(
                    f"For {counted(len(self._frames), 'frame')}, no position was reported within "
                    f"{self.tolerance:.3g} s, half of the interval between frames. {clocks}"
                )
        return said
