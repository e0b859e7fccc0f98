"""Progress and the time left."""

from __future__ import annotations

import time

import pytest

from ptychopinn_ptychodus.cli.progress import ProgressDisplay, TimeLeft
from ptychopinn_ptychodus.formatting import counted, duration


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (750, "12:30"), (3723, "1:02:03"), (-1, "0:00")])
def test_durations_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 epochs"), (1, "1 epoch"), (12, "12 epochs")])
def test_one_of_a_kind_is_singular(count: int, text: str) -> None:
    assert counted(count, "epoch") == text


def test_time_left_does_not_count_starting_up(clock: Clock) -> None:
    left = TimeLeft()
    assert left.at(0) is None
    clock.now += 20  # imports, and then the first of ten steps
    assert left.at(0.1) is None  # a tenth of the work, it may be, but not of the time
    clock.now += 5
    assert left.at(0.2) == pytest.approx(40)
    clock.now += 2  # between two steps the time goes on
    assert left.at(0.2) == pytest.approx(38)
    clock.now += 1000
    assert left.at(0.2) == 0


def test_without_a_terminal_there_is_a_line_now_and_then(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressDisplay("training") as display:
        for step in range(1, 40):
            clock.now += 1
            display.update(step / 40, 40 - step, f"epoch {step}/40")
        display.update(1.0, None, "done")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "training:  25 %  epoch 10/40  0:30 left"
    assert lines[-1] == "training: 100 %  done"
