"""Which frame was taken where, when positions come as series in time."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.live.timed_positions import TimedPositions


def with_frames(count: int, *, by: str = "time") -> TimedPositions:
    """Frames 1 to ``count``, a tenth of a second apart."""
    positions = TimedPositions(by)
    for number in range(1, count + 1):
        positions.frame(number, number / 10)
    return positions


def add(positions: TimedPositions, times: list[float]) -> None:
    for axis in (0, 1):
        positions.add(axis, [10.0 * time + axis for time in times], times)


def test_a_frame_has_what_was_reported_nearest_to_its_time() -> None:
    positions = with_frames(5)
    add(positions, [0.5, 0.4, 0.33, 0.31, 0.28, 0.1])  # in any order; 0.2 is missing
    numbers, where = positions.found()
    assert numbers == [1, 3, 4, 5]
    assert np.allclose(where, np.array([[1, 2], [3.1, 4.1], [4, 5], [5, 6]]))
    assert positions.found()[0] == []
    assert "For 1 frame, no position was reported within 0.05 s" in " ".join(positions.sentences())
    add(positions, [0.21])
    assert positions.found()[0] == [2]
    assert positions.sentences() == []


def test_a_frame_waits_for_later_values_until_there_are_none() -> None:
    positions = with_frames(3)
    add(positions, [0.1, 0.2, 0.29])
    assert positions.found()[0] == [1, 2]
    assert positions.found(is_last=True)[0] == [3]


def test_clocks_that_disagree_are_told_of() -> None:
    positions = with_frames(20)
    add(positions, [number / 10 + 0.04 for number in range(21)])
    assert len(positions.found(is_last=True)[0]) == 20
    assert "usually 0.04 s apart, and frames 0.1 s: neighbours may be mixed up" in positions.sentences()[0]


def test_by_order_times_are_of_no_account() -> None:
    positions = TimedPositions("order", first=7)
    positions.frame(7, 5.0)
    positions.add(0, [1.0, 2.0, 3.0], [0, 0, 0])
    positions.add(1, [4.0, 5.0], [9, 9])
    numbers, where = positions.found()
    assert (numbers, where.tolist()) == ([7, 8], [[1, 4], [2, 5]])
    assert positions.sentences() == ["3 values of x came, and 2 of y: a frame needs both, of the same time."]
    positions.add(1, [6.0], [9])
    assert positions.found()[0] == [9]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'luck'.*'time', 'order'"):
        TimedPositions("luck")
    with pytest.raises(ValueError, match="2 values of y came with 1 times"):
        TimedPositions().add(1, [1.0, 2.0], [0.0])
