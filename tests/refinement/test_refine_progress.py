"""A refinement tells how far it is, and stops when it is asked to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refinement_support import QUICK, displaced

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.position_search import PositionSearch
from ptychopinn_ptychodus.refinement.report import EpochReports, WorkDone
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages


def test_reports_count_epochs_and_progress_ends_at_one(scan: RawData, flat: np.ndarray) -> None:
    reports: list[Any] = []
    fractions: list[float] = []
    result = refine(
        scan,
        flat,
        scan.probeGuess,
        QUICK,
        on_epoch=reports.append,
        on_progress=fractions.append,
        device="cpu",
    )
    assert [(r.epoch, r.nepochs) for r in reports] == [(1, 2), (2, 2)]
    assert [r.error for r in reports] == result.history
    assert reports[-1].seconds_left == 0
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_progress_is_told_before_the_first_epoch(scan: RawData, flat: np.ndarray) -> None:
    fractions: list[float] = []
    before: list[int] = []
    refine(
        scan,
        flat,
        scan.probeGuess,
        RefinementConfig(epochs=3),
        on_epoch=lambda report: before.append(len(fractions)) if report.epoch == 1 else None,
        on_progress=fractions.append,
        device="cpu",
    )
    tried = fractions[: before[0] - 24]
    assert len(set(tried)) > 50
    assert 0.0 < tried[0] < 0.1
    assert 0.3 < tried[-1] < 1.0
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_progress_ends_at_one_when_the_last_epoch_is_given_up(scan: RawData) -> None:
    batches: list[bool] = []
    fractions: list[float] = []

    def stop() -> bool:
        batches.append(True)
        return False

    wild = RefinementConfig(epochs=1, object_step=2.0, momentum=0.99, illumination_floor=1e-3)
    start = scan.objectGuess
    assert start is not None
    refine(
        scan,
        start,
        scan.probeGuess,
        wild,
        on_progress=fractions.append,
        should_stop=stop,
        device="cpu",
        stages=~Stages.PUPIL,
    )
    assert len(batches) < 24, "nothing went wrong: make it wilder"
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_stop_is_answered_before_the_next_batch_with_the_last_whole_epoch(
    scan: RawData, flat: np.ndarray
) -> None:
    results = []
    for batches in (2 * 24, 2 * 24 + 5):
        calls: list[bool] = []

        def stop(calls: list[bool] = calls, batches: int = batches) -> bool:
            calls.append(len(calls) >= batches)
            return calls[-1]

        config = RefinementConfig(epochs=50)
        results.append(
            refine(
                scan,
                flat,
                scan.probeGuess,
                config,
                should_stop=stop,
                device="cpu",
                stages=~(Stages.PUPIL | Stages.TERMS),
            )
        )
        assert len(calls) == batches + 1
    assert all(result.stopped and len(result.history) == 2 for result in results)
    np.testing.assert_array_equal(results[0].object, results[1].object)
    assert results[0].error < 0.5 * results[0].start_error


def test_stopped_at_once_it_returns_the_start(scan: RawData, flat: np.ndarray) -> None:
    result = refine(scan, flat, scan.probeGuess, QUICK, should_stop=lambda: True, device="cpu")
    assert result.stopped
    np.testing.assert_array_equal(result.object, flat)


def far_off(scan: RawData) -> RawData:
    """Positions that are off by six pixels, each in its own way."""
    by = np.random.default_rng(4).normal(size=(len(scan), 2))
    return displaced(scan, by * 6.0 / np.sqrt(2.0))


@pytest.mark.parametrize("kept", [True, False])
def test_a_search_of_positions_is_part_of_the_work_and_epochs_count_on(
    scan: RawData, flat: np.ndarray, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    reports: list[Any] = []
    done_at: list[float] = []
    of_search: list[float] = []
    found = PositionSearch.found

    def watched(self: PositionSearch, *how: Any) -> np.ndarray | None:
        before = len(told)
        moved = found(self, *how)
        of_search.extend(told[before:])
        # where nothing is gained by what it found, that is not kept
        return moved if kept or moved is None else np.zeros_like(moved)

    def on_epoch(report: Any) -> None:
        reports.append(report)
        done_at.append(told[-1])

    monkeypatch.setattr(PositionSearch, "found", watched)
    config = RefinementConfig(epochs=4)
    wrong = far_off(scan)
    result = refine(
        wrong, flat, scan.probeGuess, config, on_epoch=on_epoch, on_progress=told.append, device="cpu"
    )
    assert [(r.epoch, r.nepochs) for r in reports] == [(n, 4 if n <= 4 else 8) for n in range(1, 9)]
    assert [r.error for r in reports] == result.history
    assert reports[-1].seconds_left == 0
    # it grows all the while, and not all seems to be done before it is
    assert told == sorted(told)
    assert done_at[3] < 0.97
    assert len(set(of_search)) > 100
    assert done_at[3] < of_search[-1] < done_at[4] < done_at[-1]
    assert told[-1] == 1.0


def test_work_that_was_not_foreseen_has_what_is_left_of_the_scale() -> None:
    told: list[float] = []
    work = WorkDone(told.append)
    work.reserve(10.0)
    work.begin_part(10.0)
    work.reach(5.0)
    work.add(5.0)
    work.reach(10.0)
    work.begin_part(5.0)  # the part before was less than it had seemed
    work.advance(2.5)
    work.advance(100.0)
    work.end()
    assert told == pytest.approx([0.5, 0.75, 0.9375, 1.0, 1.0])


def test_what_is_reserved_is_not_done_by_parts_before_it() -> None:
    told: list[float] = []
    work = WorkDone(told.append)
    work.reserve(10.0)
    work.reserve(30.0)
    work.begin_part(10.0)
    work.reach(20.0)
    work.begin_part(20.0)
    work.reach(20.0)
    work.begin_part(10.0)
    work.reach(0.0)
    work.reach(5.0)
    work.end()
    assert told == pytest.approx([0.25, 0.75, 0.75, 0.875, 1.0])


def test_reports_are_of_the_time_that_epochs_took() -> None:
    seen: list[Any] = []
    reports = EpochReports(seen.append)
    reports.tell(0.5, left=1, seconds=2.0, patterns=100)
    reports.tell(0.4, left=0, seconds=2.0, patterns=100)
    reports.tell(0.3, left=2, seconds=1.0, patterns=100)
    assert [(r.epoch, r.nepochs, r.seconds) for r in seen] == [(1, 2, 2.0), (2, 2, 4.0), (3, 5, 5.0)]
    assert seen[-1].patterns_per_second == pytest.approx(60.0)
    assert reports.history == [0.5, 0.4, 0.3]
