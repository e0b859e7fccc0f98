"""Once the noise of photons is all that is left, more epochs are not taken: they would fit it."""

from __future__ import annotations

import numpy as np
import pytest
from refinement_support import as_found, correlation, made_scan, with_patterns

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.report import Refined, RefinementReport
from ptychopinn_ptychodus.refinement.schedule import Schedule
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages


def refined(scan: RawData, flat: np.ndarray, epochs: int, **how: object) -> Refined:
    config = RefinementConfig(epochs=epochs)
    return refine(scan, flat, scan.probeGuess, config, device="cpu", quiet=True, **how)  # type: ignore[arg-type]


def test_steps_shrink_over_the_second_half_to_a_fiftieth() -> None:
    schedule = Schedule(10)
    steps = [schedule.step(done) for done in (0.0, 4.9, 5.0, 7.5, 10.0)]
    assert steps == pytest.approx([1.0, 1.0, 1.0, 0.51, 0.02])


@pytest.mark.parametrize(("most", "first"), [(1, 1), (6, 3), (10, 5), (60, 5)])
def test_the_error_tells_of_noise_after_half_of_the_epochs_or_five(most: int, first: int) -> None:
    assert [Schedule(most).is_late(done) for done in (first - 1, first)] == [False, True]


@pytest.mark.parametrize(
    ("most", "done", "left"), [(60, 5, 10), (60, 14, 28), (60, 40, 60), (10, 5, 10), (7, 4, 7)]
)
def test_as_many_epochs_follow_as_led_to_the_noise(most: int, done: int, left: int) -> None:
    schedule = Schedule(most)
    schedule.wind_down(done)
    assert schedule.epochs == left
    assert schedule.step(left) == pytest.approx(schedule.step(1.0) / 50)


def test_more_epochs_of_few_counts_are_those_of_fewer() -> None:
    dim = made_scan(photons=3e2, seed=21)
    assert dim.objectGuess is not None
    flat, reports = np.ones_like(dim.objectGuess), list[RefinementReport]()
    few, many = refined(dim, flat, 10), refined(dim, flat, 40, on_epoch=reports.append)
    assert len(many.history) == 10
    np.testing.assert_array_equal(many.object, few.object)
    np.testing.assert_array_equal(many.probe, few.probe)
    assert [report.nepochs for report in reports] == [40] * 4 + [10] * 6


def test_far_from_noise_all_epochs_are_taken(scan: RawData, flat: np.ndarray) -> None:
    haze = np.linspace(0.0, 200.0, scan.N)  # scattered light, more on one side
    foggy = with_patterns(scan, np.sqrt(scan.diff3d**2 + haze).astype(np.float32))
    assert len(refined(foggy, flat, 14).history) == 14


def test_what_takes_longer_to_the_noise_gets_longer(scan: RawData, flat: np.ndarray) -> None:
    moved = as_found(scan, refined(scan, flat, 1))
    by = np.random.default_rng(3).normal(scale=2.5, size=(scan.n_patterns, 2))
    off = RawData(
        xcoords=moved.xcoords + by[:, 0],
        ycoords=moved.ycoords + by[:, 1],
        diff3d=scan.diff3d,
        probeGuess=scan.probeGuess,
        objectGuess=scan.objectGuess,
        domain="amplitude",
    )
    usual, longer = (refined(off, flat, epochs, stages=~Stages.SEARCH) for epochs in (10, 30))
    assert len(longer.history) > 20
    assert correlation(longer.object, off) > correlation(usual.object, off)
