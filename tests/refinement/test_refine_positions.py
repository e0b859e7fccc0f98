"""Positions stay where they were recorded if they were right, and are found if they were not."""

from __future__ import annotations

import numpy as np
import pytest
from refinement_support import correlation, displaced, made_scan, true_positions

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine


def off_by(positions: np.ndarray, scan: RawData) -> float:
    """Root mean square distance from the true positions, pixels, a common shift apart."""
    wrong = positions - true_positions(scan)
    return float(np.sqrt(((wrong - wrong.mean(0)) ** 2).sum(1).mean()))


@pytest.fixture(scope="module")
def dim() -> RawData:
    """A scan of few photons: noise moves what its patterns know of a position by half a pixel."""
    return made_scan(photons=3e3, seed=11)


def test_right_positions_do_not_wander_with_noise(dim: RawData, flat: np.ndarray) -> None:
    held, free, short = (
        refine(dim, flat, dim.probeGuess, RefinementConfig(epochs=epochs, positions=positions), device="cpu")
        for epochs, positions in ((30, True), (30, False), (10, True))
    )
    assert off_by(held.positions, dim) < 0.05
    assert off_by(short.positions, dim) < 0.05
    assert correlation(held.object, dim) == pytest.approx(correlation(free.object, dim), abs=0.005)


@pytest.mark.parametrize("distance", [1.0, 2.0])
def test_wrong_positions_are_found(scan: RawData, flat: np.ndarray, distance: float) -> None:
    by = np.random.default_rng(14).normal(0.0, distance / np.sqrt(2.0), (len(scan), 2))
    recorded = displaced(scan, by)
    result = refine(recorded, flat, scan.probeGuess, RefinementConfig(epochs=10), device="cpu")
    before = off_by(true_positions(recorded), scan)
    assert off_by(result.positions, scan) < before / 3
    assert correlation(result.object, scan) > 0.98


def test_wrong_positions_of_a_dim_scan_are_found_as_far_as_its_noise_allows(
    dim: RawData, flat: np.ndarray
) -> None:
    by = np.random.default_rng(15).normal(0.0, 1.5, (len(dim), 2))
    recorded = displaced(dim, by)
    fixed, found = (
        refine(recorded, flat, dim.probeGuess, RefinementConfig(epochs=20, positions=positions), device="cpu")
        for positions in (False, True)
    )
    assert off_by(found.positions, dim) < 0.5 * off_by(true_positions(recorded), dim)
    assert correlation(found.object, dim) > correlation(fixed.object, dim) + 0.05
