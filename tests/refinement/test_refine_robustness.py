"""A refinement among bad data and steps that are too long."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from refinement_support import QUICK, with_bright_frame

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import NumpyArrays
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages


def test_a_bright_frame_does_not_undo_the_refinement_of_a_large_scan() -> None:
    x, y = raster_positions(17, 17, 5.0, jitter=0.3, origin=30.0, seed=1)
    scan = simulate_scan(make_object((144, 140), seed=2), make_probe(64), x, y, photons=1e6, seed=3)
    assert scan.objectGuess is not None
    near = 0.7 * scan.objectGuess + 0.3
    bright = with_bright_frame(scan, 2)
    result = refine(bright, near, scan.probeGuess, RefinementConfig(epochs=5), device="cpu")
    assert result.error < 0.6 * result.start_error


def test_a_bright_frame_ends_no_epoch(scan: RawData, flat: np.ndarray) -> None:
    batches: list[bool] = []

    def stop() -> bool:
        batches.append(True)
        return False

    bright = with_bright_frame(scan, 0)
    config = RefinementConfig(epochs=6)
    result = refine(
        bright,
        flat,
        scan.probeGuess,
        config,
        should_stop=stop,
        device="cpu",
        stages=~(Stages.PUPIL | Stages.TERMS),
    )
    assert len(batches) == 6 * 24
    assert result.error < 0.3 * result.start_error


def test_batches_of_a_small_scan_hold_four_patterns_or_more(scan: RawData, flat: np.ndarray) -> None:
    batches: list[bool] = []

    def stop() -> bool:
        batches.append(True)
        return False

    few = scan.select(np.arange(0, 26))
    refine(
        few,
        flat,
        scan.probeGuess,
        RefinementConfig(epochs=1),
        should_stop=stop,
        device="cpu",
        stages=~Stages.PUPIL,
    )
    assert len(batches) == 26 // 4


class _Overflowing(NumpyArrays):
    """One FFT gives NaN, as an overflow would."""

    elements = 1 << 17  # so many patterns at a time that the FFT in question is one of the epochs'

    def __init__(self, at: int) -> None:
        super().__init__(1)
        self._left = at

    def fft(self, waves: Any) -> Any:
        self._left -= 1
        return super().fft(waves) * (np.nan if self._left == 0 else 1)


@pytest.mark.parametrize("at", [20, 120])
def test_an_epoch_that_overflows_is_taken_back_and_leaves_finite_figures(
    scan: RawData, flat: np.ndarray, at: int
) -> None:
    reports: list[Any] = []
    config = RefinementConfig(epochs=6)
    device = _Overflowing(at)
    result = refine(
        scan,
        flat,
        scan.probeGuess,
        config,
        on_epoch=reports.append,
        device=device,
        stages=~(Stages.PUPIL | Stages.TERMS),
    )
    errors = [result.start_error, *result.history]
    assert np.isfinite(errors).all()
    assert any(one == after for one, after in itertools.pairwise(errors)), "nothing overflowed"
    assert [report.error for report in reports] == result.history
    assert len(result.history) == 6
    assert result.error < 0.5 * result.start_error


def test_the_result_is_never_worse_than_the_start(scan: RawData) -> None:
    assert scan.objectGuess is not None
    for seed in range(3):
        # from the truth, steps that are far too long lead away
        wild = RefinementConfig(
            epochs=2, object_step=2.0, probe_step=2.0, momentum=0.99, batch_size=8, seed=seed
        )
        result = refine(scan, scan.objectGuess, scan.probeGuess, wild, device="cpu")
        assert result.error <= result.start_error
        assert np.isfinite(result.object).all()
        assert np.isfinite(result.probe).all()
        assert np.isfinite(result.positions).all()


def test_it_goes_on_from_the_best_when_an_epoch_fails(scan: RawData, flat: np.ndarray) -> None:
    wild = RefinementConfig(epochs=12, object_step=2.0, momentum=0.95, illumination_floor=1e-3)
    result = refine(scan, flat, scan.probeGuess, wild, device="cpu")
    assert max(result.history) > min(result.history) * 2, "nothing went wrong: make it wilder"
    assert result.error < 0.5 * result.start_error


def test_runs_are_repeatable_and_seeds_differ(scan: RawData, flat: np.ndarray) -> None:
    one, two, other = (
        refine(scan, flat, scan.probeGuess, dataclasses.replace(QUICK, seed=seed), device="cpu").object
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_no_epochs_return_the_start_with_the_probe_in_scale(scan: RawData) -> None:
    assert scan.objectGuess is not None
    result = refine(scan, scan.objectGuess, scan.probeGuess * 7, RefinementConfig(epochs=0), device="cpu")
    np.testing.assert_array_equal(result.object, scan.objectGuess)
    np.testing.assert_allclose(result.probe, scan.probeGuess, rtol=1e-2, atol=1e-3)
    assert result.history == []
    assert result.error == result.start_error
