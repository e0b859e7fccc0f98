"""Frames that are lost, doubled, out of order, damaged, or come before their positions."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.live.frames import Frames

N = 32


def frame(value: int = 1) -> np.ndarray:
    return np.full((N, N), value, np.uint16)


def test_a_frame_waits_for_its_position_and_is_said_to() -> None:
    frames = Frames(N)
    frames.add([0, 1], [frame(), frame()])
    frames.place([1], [(3.0, 4.0)])
    assert frames.counts.waiting == 1
    assert frames.take(9)[0].tolist() == [1]
    assert "1 frame without a position, 0" in " ".join(frames.sentences())
    frames.place([0], [(1.0, 2.0)])
    numbers, patterns, positions = frames.take(9)
    assert (numbers.tolist(), positions.tolist()) == ([0], [[1.0, 2.0]])
    assert np.array_equal(patterns, [frame()])
    assert frames.sentences() == []


def test_positions_may_come_before_frames_and_frames_in_any_order() -> None:
    frames = Frames(N)
    frames.place([0, 1, 2], [(0, 0), (1, 0), (2, 0)])
    for number in (2, 0, 1):
        frames.add([number], [frame(number + 1)])
    numbers, patterns, positions = frames.all_placed()
    assert numbers.tolist() == [0, 1, 2]
    assert patterns[:, 0, 0].tolist() == [1, 2, 3]
    assert positions[:, 0].tolist() == [0, 1, 2]
    assert frames.counts.missing == 0


def test_frames_that_never_came_are_counted_and_named() -> None:
    frames = Frames(N)
    frames.add([3, 6, 7], [frame()] * 3)
    assert frames.counts.missing == 2
    assert "2 frames are lost: no frame 4, 5 came." in frames.sentences()


def test_the_first_of_doubled_frames_counts() -> None:
    frames = Frames(N)
    frames.add([0, 0], [frame(1), frame(2)])
    frames.place([0, 0], [(0, 0), (9, 9)])
    _, patterns, positions = frames.all_placed()
    assert patterns[0, 0, 0] == 1
    assert positions.tolist() == [[0, 0]]
    assert frames.counts.doubled == 1
    assert "came again, 0" in " ".join(frames.sentences())


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (np.full((N, N), np.nan, np.float32), "NaN"),
        (np.ones((N, N + 1)), "32 × 33 pixels"),
        (np.ones(N), "of 32 pixels"),
        (np.full((N, N), -1, np.int32), "below 0"),
        (np.full((N, N), "x"), "is no number"),
    ],
)
def test_a_damaged_frame_is_refused_by_number_and_may_come_again(pattern: np.ndarray, reason: str) -> None:
    frames = Frames(N)
    frames.add([5], [pattern])
    assert frames.counts.damaged == 1
    (said,) = frames.sentences()
    assert "5" in said
    assert reason in said
    frames.add([5], [frame()])
    assert (frames.counts.damaged, len(frames)) == (0, 1)


def test_what_a_bad_pixel_holds_is_of_no_account() -> None:
    bad = np.zeros((N, N), bool)
    bad[3, 4] = True
    pattern = np.ones((N, N))
    pattern[3, 4] = np.nan
    frames = Frames(N, bad)
    frames.add([0], [pattern])
    assert frames.counts.damaged == 0


def test_a_position_that_is_not_finite_leaves_its_frame_waiting() -> None:
    frames = Frames(N)
    frames.add([0], [frame()])
    frames.place([0], [(np.inf, 0)])
    assert (frames.counts.waiting, frames.counts.refused_positions) == (1, 1)
    assert "not finite" in " ".join(frames.sentences())
    frames.place([0], [(1, 0)])
    assert (frames.counts.waiting, frames.counts.refused_positions) == (0, 0)
