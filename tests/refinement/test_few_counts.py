"""Scans of a photon in few pixels: the likelihood from the beginning, and no more than the counts say."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from refinement_support import correlation, made_scan, true_positions, with_patterns

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import arrays_for
from ptychopinn_ptychodus.refinement.few_counts import left_by_amplitudes, most_batches
from ptychopinn_ptychodus.refinement.position_steps import PositionSteps
from ptychopinn_ptychodus.refinement.probe_prior import ProbePrior
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages


def refined(scan: RawData, metric: str = "auto") -> Refined:
    assert scan.objectGuess is not None
    config = RefinementConfig(metric=metric)
    flat = np.ones_like(scan.objectGuess)
    return refine(scan, flat, scan.probeGuess, config, device="cpu", stages=~(Stages.PUPIL | Stages.TERMS))


@pytest.mark.parametrize("seed", [31, 41])
def test_a_hundred_photons_show_an_object_and_spoil_neither_probe_nor_positions(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    scan = made_scan(photons=100, seed=seed)
    with caplog.at_level(logging.WARNING):
        result = refined(scan)
    assert result.metric == "poisson"
    assert result.error < result.start_error
    assert correlation(result.object, scan) > 0.6
    truth = scan.probeGuess[0]
    light = np.abs(truth)
    # a shift and a ramp apart, which go with the object's
    probe, _ = metrics.align(result.probe[0], truth, light > 0.1 * light.max())
    assert abs(np.vdot(probe, truth)) > 0.97 * np.linalg.norm(probe) * np.linalg.norm(truth)
    assert np.abs(result.positions - true_positions(scan)).max() < 0.1
    assert "is lost in their noise" in caplog.text


def test_an_epoch_that_was_good_and_ended_badly_is_not_gone_on_from() -> None:
    # this probe spreads the light over all of the pattern, and steps grow from epoch to epoch
    x, y = raster_positions(20, 20, 6.0, jitter=0.3, origin=36.0, seed=1253)
    edge = int(np.ceil(max(x.max(), y.max()) + 36))
    truth = make_object((edge, edge), "mixed", 1253)
    probe = make_probe(64, diameter=0.5, defocus=28.0)
    scan = simulate_scan(truth, probe, x, y, photons=1e3, seed=1254)
    result = refined(scan)
    assert max(result.history) > 1.25 * min(result.history[:4])
    assert not result.kept_start
    mask = metrics.illumination_mask(probe, x, y, truth.shape)
    assert metrics.compare(result.object, truth, mask).complex_correlation_centred > 0.6


def test_no_object_is_made_of_noise_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    x, y = true_positions(made_scan(photons=100, seed=31)).T
    empty = simulate_scan(np.ones((124, 120), np.complex64), make_probe(64), x, y, photons=30, seed=5)
    with caplog.at_level(logging.WARNING):
        refined(empty)
    assert "NOT A RECONSTRUCTION" in caplog.text or "the start is kept" in caplog.text


def test_bright_scans_and_what_the_model_does_not_know_are_left_to_amplitudes(scan: RawData) -> None:
    config = RefinementConfig(epochs=1)
    dim = made_scan(photons=300, seed=31)
    haze = np.random.default_rng(0).poisson(np.linspace(0.0, 0.5, 64), dim.diff3d.shape)
    foggy = with_patterns(dim, np.sqrt(dim.diff3d**2 + haze).astype(np.float32))
    for one in (scan, foggy):
        flat = np.ones((124, 120), complex)
        result = refine(
            one, flat, one.probeGuess, config, device="cpu", stages=~(Stages.PUPIL | Stages.TERMS)
        )
        assert result.metric == "amplitude"


def test_amplitudes_keep_the_light_of_bright_pixels_alone() -> None:
    assert left_by_amplitudes(np.full((4, 4), 100.0)) > 0.99
    # of a photon in a hundred pixels, E √n is λ, and its square λ²
    assert left_by_amplitudes(np.full((4, 4), 0.01)) == pytest.approx(0.01, rel=0.02)


def test_batches_hold_enough_photons_for_a_step() -> None:
    canvas = np.ones((100, 100))
    assert most_batches(1e4 * 0.4 * 17, canvas) == 17
    assert most_batches(10.0, canvas) == 4


def test_changes_of_a_probe_that_noise_makes_are_taken_back_and_others_are_not() -> None:
    arrays, rng, size, objects = arrays_for("cpu"), np.random.default_rng(0), 32, 200.0
    mean = np.full((size, size), 4.0)
    start = make_probe(size).astype(np.complex64)
    start *= np.sqrt(mean.sum() / (np.abs(start) ** 2).sum())
    noise = (rng.normal(size=start.shape) + 1j * rng.normal(size=start.shape)) * np.sqrt(0.5 / objects)
    true = 0.5 * start * np.indices((size, size))[0] / size
    kept = []
    for change in (noise, true):
        changed = (start + change).astype(np.complex64)
        prior = ProbePrior(mean, start, arrays)
        assert prior.held(changed, 1.0) is changed
        prior.learn(changed, objects, float(0.25 * size * size))
        factor = np.vdot(start, changed) / np.vdot(start, start)
        before, after = (np.linalg.norm(one - factor * start) for one in (changed, prior.held(changed, 1.0)))
        kept.append(after / before)
    assert kept[0] < 0.1
    assert kept[1] > 0.8


def test_positions_of_which_nothing_is_known_have_a_bound() -> None:
    config = RefinementConfig()
    start = np.random.default_rng(0).uniform(0, 50, (40, 2))
    steps = PositionSteps(start, config, np.full((8, 8), 0.01))
    steps.learn(start, 0.6)
    assert (steps._hold > 0).all()
    steps._curvature = np.full_like(start, 1e-9)
    steps.learn(start + 1.0, 0.6)
    assert (steps._hold >= 0.01 / config.position_range**2).all()
