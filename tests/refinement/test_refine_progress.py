"""A refinement tells how far it is, and stops when it is asked to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refinement_support import QUICK

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
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
