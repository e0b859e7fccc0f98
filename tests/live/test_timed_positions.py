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
    for number in (7, 8, 9):
        positions.frame(number, 5.0)
    positions.add(0, [1.0, 2.0, 3.0], [0, 0, 0])
    positions.add(1, [4.0, 5.0], [9, 9])
    numbers, where = positions.found()
    assert (numbers, where.tolist()) == ([7, 8], [[1, 4], [2, 5]])
    assert positions.sentences() == ["3 values of x came, and 2 of y: a frame needs both, of the same time."]
    positions.add(1, [6.0], [9])
    assert positions.found()[0] == [9]


def by_order(times: list[float], *, count: int = 40, pause: float = 0.0) -> TimedPositions:
    """Frames 1 to ``count``, a tenth of a second apart, a pause after each tenth; positions by order."""
    positions = TimedPositions("order")
    for number in range(1, count + 1):
        positions.frame(number, taken(number, pause))
    for axis in (0, 1):
        for start in range(0, len(times), 5):
            part = times[start : start + 5]
            positions.add(axis, [0.0] * len(part), part)
    positions.found()
    return positions


def taken(number: int, pause: float) -> float:
    return number / 10 + pause * (number // 10)


@pytest.mark.parametrize("pause", [0.0, 3.0])
@pytest.mark.parametrize("lost", [(20,), (17, 18), (11, 30), (1,), (20, 33)])
def test_by_order_a_lost_position_is_found_by_clocks_that_disagree(
    lost: tuple[int, ...], pause: float
) -> None:
    """They differ by an hour, drift by a thousandth, and are not exact."""
    jitter = np.random.default_rng(1).normal(0, 0.01, 41)
    there = [number for number in range(1, 41) if number not in lost]
    positions = by_order([3600 + 1.001 * taken(n, pause) + jitter[n] for n in there], pause=pause)
    found = {shift.first: shift.by for shift in positions.shifts}
    if lost == (1,):  # nothing tells the first one from clocks that differ
        assert found == {}
    elif lost == (17, 18):
        assert found == {17: 2}
    else:
        # of the second one, there is one fewer before it
        assert found == {number - before: 1 for before, number in enumerate(lost)}
    assert positions.lacking() == len(lost)
    assert f"{len(lost)} fewer than there are frames" in positions.lacking_in_words()


def test_by_order_a_position_too_many_is_found() -> None:
    times = [3600 + number / 10 for number in range(1, 41)]
    positions = by_order([*times[:20], times[19] + 0.01, *times[20:]])
    assert [(shift.first, shift.by) for shift in positions.shifts] == [(21, -1)]
    assert "1 position is too many: from frame 21 on" in positions.shifts[0].in_words()
    assert positions.lacking() == -1


def test_by_order_times_that_tell_nothing_accuse_nobody() -> None:
    rng = np.random.default_rng(2)
    of_batches = [3600 + (number // 10) / 1.0 for number in range(40)]
    for times in ([0.0] * 40, of_batches, np.cumsum(rng.uniform(0.01, 0.3, 40)).tolist()):
        positions = by_order(times)
        assert positions.shifts == ()
        assert not positions.times_tell
    with_a_late_one = [3600 + number / 10 for number in range(1, 41)]
    with_a_late_one[15] += 0.09
    assert by_order(with_a_late_one).shifts == ()


def test_by_order_values_are_in_the_order_in_which_they_came() -> None:
    positions = TimedPositions("order")
    for axis in (0, 1):
        positions.add(axis, [1.0, 2.0], [9.0, 8.0])
    assert positions.found()[1][:, 0].tolist() == [1.0, 2.0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'luck'.*'time', 'order'"):
        TimedPositions("luck")
    with pytest.raises(ValueError, match="2 values of y came with 1 times"):
        TimedPositions().add(1, [1.0, 2.0], [0.0])
