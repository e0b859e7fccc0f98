"""Broken frames hardly pull on a refinement, and are named; whatever can be fitted is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from refinement_support import correlation, with_patterns

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.misfits import Misfits
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine

CONFIG = RefinementConfig(epochs=10)
FRAMES = (45, 84, 100)


def without_beam(pattern: np.ndarray) -> np.ndarray:
    return np.zeros_like(pattern)


def doubled(pattern: np.ndarray) -> np.ndarray:
    return pattern * np.sqrt(2.0)


def full_of_zingers(pattern: np.ndarray) -> np.ndarray:
    hit = pattern.copy()
    hit.ravel()[np.random.default_rng(0).choice(hit.size, 30, replace=False)] = np.sqrt(6e4)
    return hit


def broken(scan: RawData, way: Callable[[np.ndarray], np.ndarray], frames: Sequence[int] = FRAMES) -> RawData:
    patterns = scan.diff3d.copy()
    for frame in frames:
        patterns[frame] = way(patterns[frame])
    return with_patterns(scan, patterns)


@pytest.fixture(scope="module")
def clean(scan: RawData, flat: np.ndarray) -> Refined:
    return refine(scan, flat, scan.probeGuess, CONFIG, device="cpu")


@pytest.mark.parametrize("way", [without_beam, doubled, full_of_zingers])
def test_broken_frames_cost_next_to_nothing_and_are_named(
    scan: RawData,
    flat: np.ndarray,
    clean: Refined,
    way: Callable[[np.ndarray], np.ndarray],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        result = refine(broken(scan, way), flat, scan.probeGuess, CONFIG, device="cpu")
    assert correlation(result.object, scan) > correlation(clean.object, scan) - 0.003
    assert result.error < 1.3 * clean.error  # of the frames that count
    assert result.error < result.start_error
    assert tuple(np.flatnonzero(result.weights < 0.5).tolist()) == FRAMES
    assert (np.delete(result.weights, FRAMES) == 1).all()
    assert "3 of 169 patterns fit far worse" in caplog.text
    assert "numbers 45, 84, 100 (from 0)" in caplog.text


def test_a_row_of_frames_without_beam_is_found(scan: RawData, flat: np.ndarray, clean: Refined) -> None:
    row = tuple(range(65, 78))
    result = refine(broken(scan, without_beam, row), flat, scan.probeGuess, CONFIG, device="cpu")
    assert tuple(np.flatnonzero(result.weights < 0.5)) == row
    assert correlation(result.object, scan) > correlation(clean.object, scan) - 0.03


def test_of_a_sound_scan_all_patterns_count(
    clean: Refined, scan: RawData, flat: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    assert (clean.weights == 1).all()
    with caplog.at_level(logging.WARNING):
        refine(scan, flat, scan.probeGuess, RefinementConfig(epochs=1), device="cpu")
    assert "patterns fit" not in caplog.text


def test_patterns_of_a_feature_that_is_not_fitted_yet_count() -> None:
    y, x = np.mgrid[:30, :30]
    positions = np.stack((x.ravel(), y.ravel()), -1).astype(float)
    errors = np.random.default_rng(0).normal(1.0, 0.05, 900)
    feature = np.hypot(x.ravel() - 12, y.ravel() - 20) < 4.5
    errors[feature] *= 30
    misfits = Misfits(positions, np.full(900, 100.0))
    assert (misfits.weights(errors)[feature] > 0.3).mean() > 0.8
    alone = errors.copy()
    alone[feature] = 1.0
    alone[44] = 30.0
    weights = misfits.weights(alone)
    assert weights[44] < 0.15
    assert (np.delete(weights, 44) == 1).all()


def test_dim_patterns_are_no_misfits() -> None:
    """Where a sample absorbs, there are few counts, of which noise is a large part."""
    counts = np.full(100, 1e5)
    counts[::10] = 1e3
    weights = Misfits(np.random.default_rng(0).uniform(0, 50, (100, 2)), counts).weights(np.full(100, 500.0))
    np.testing.assert_array_equal(weights, 1.0)
