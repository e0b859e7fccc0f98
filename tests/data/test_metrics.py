"""Metrics: blind to what intensities cannot determine, and to nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData


def disguise(
    obj: np.ndarray,
    shift: tuple[float, float] = (0.0, 0.0),
    ramp: tuple[float, float] = (0.0, 0.0),
    factor: complex = 1.0,
) -> np.ndarray:
    y, x = np.mgrid[: obj.shape[0], : obj.shape[1]]
    moved = ndimage.shift(obj.astype(complex), shift, order=5, mode="nearest")
    return factor * moved * np.exp(1j * (ramp[0] * y + ramp[1] * x))


@pytest.fixture(scope="module")
def mask(obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return metrics.illumination_mask(probe, *positions, obj.shape)


@given(
    shift=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    ramp=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    scale=st.floats(0.01, 100),
    phase=st.floats(-3, 3),
)
@settings(max_examples=10, deadline=None)
def test_ambiguities_are_removed(
    obj: np.ndarray,
    mask: np.ndarray,
    shift: tuple[float, float],
    ramp: tuple[float, float],
    scale: float,
    phase: float,
) -> None:
    scores = metrics.compare(disguise(obj, shift, ramp, scale * np.exp(1j * phase)), obj, mask)
    assert scores.complex_correlation_centred > 0.995
    assert scores.amplitude.ssim > 0.97
    assert scores.phase.ssim > 0.97
    np.testing.assert_allclose(scores.alignment.shift_px, np.negative(shift), atol=0.05)
    np.testing.assert_allclose(scores.alignment.ramp_rad_per_px, ramp, atol=1e-3)
    assert scores.alignment.scale * scale == pytest.approx(1, rel=0.02)


def test_the_truth_scores_perfectly(obj: np.ndarray, mask: np.ndarray) -> None:
    scores = metrics.compare(obj, obj, mask)
    assert scores.amplitude.ssim == pytest.approx(1)
    assert scores.phase.pearson == pytest.approx(1)
    assert scores.amplitude.psnr_db > 100
    assert set(scores.to_dict()) == {"amplitude", "phase", "complex_correlation_centred", "alignment"}


def test_worse_is_scored_worse(obj: np.ndarray, mask: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=obj.shape) + 1j * rng.normal(size=obj.shape)
    scores = [metrics.compare(obj + level * noise, obj, mask) for level in (0.01, 0.05, 0.2)]
    for name in ("ssim", "psnr_db", "pearson"):
        values = [getattr(s.amplitude, name) for s in scores]
        assert values == sorted(values, reverse=True)
    # white noise of known power: PSNR says so
    assert scores[0].amplitude.rmse == pytest.approx(0.01, rel=0.1)


def test_a_featureless_object_scores_nothing(obj: np.ndarray, mask: np.ndarray) -> None:
    flat = metrics.compare(np.ones_like(obj), obj, mask)
    assert flat.complex_correlation_centred < 0.2
    assert flat.amplitude.pearson == pytest.approx(0, abs=0.05)
    mirrored = metrics.compare(obj[::-1, ::-1], obj)
    assert mirrored.complex_correlation_centred < 0.6


def test_shifts_can_be_forbidden(obj: np.ndarray, mask: np.ndarray) -> None:
    moved = disguise(obj, (2.0, 0.0))
    assert metrics.compare(moved, obj, mask, max_shift=0).alignment.shift_px == (0.0, 0.0)
    assert metrics.compare(moved, obj, mask, max_shift=0).amplitude.ssim < 0.9


def test_images_that_cannot_be_compared_are_refused(obj: np.ndarray) -> None:
    with pytest.raises(ValueError, match="compare images on the same grid"):
        metrics.compare(obj[:-1], obj)
    with pytest.raises(ValueError, match="mask is empty"):
        metrics.compare(obj, obj, np.zeros(obj.shape, bool))


def test_mask_is_where_the_light_was(probe: np.ndarray) -> None:
    mask = metrics.illumination_mask(probe, [40.0], [70.0], (120, 100))
    rows, columns = np.nonzero(mask)
    assert rows.mean() == pytest.approx(70, abs=1.5)
    assert columns.mean() == pytest.approx(40, abs=1.5)


def test_residual_tells_the_right_object_and_does_not_depend_on_scale(scan: RawData, obj: np.ndarray) -> None:
    right = metrics.normalised_amplitude_residual(scan, obj, scan.probeGuess)
    assert right < 0.02
    assert metrics.normalised_amplitude_residual(scan, 3 * obj, 0.1 * scan.probeGuess) == pytest.approx(right)
    assert metrics.normalised_amplitude_residual(scan, np.ones_like(obj), scan.probeGuess) > 3 * right


def test_residual_ignores_bad_pixels(scan: RawData, obj: np.ndarray) -> None:
    bad = np.zeros((64, 64), bool)
    bad[30:34, 30:34] = True
    spoilt = scan.diff3d.copy()
    spoilt[:, bad] = 1e3
    arguments: dict[str, Any] = {
        "xcoords": scan.xcoords,
        "ycoords": scan.ycoords,
        "probeGuess": scan.probeGuess,
    }
    raw = RawData(**arguments, diff3d=spoilt, bad_pixels=bad)
    assert metrics.normalised_amplitude_residual(raw, obj, scan.probeGuess) < 0.03


def test_ring_correlation_finds_the_frequency_where_noise_takes_over(
    obj: np.ndarray, mask: np.ndarray
) -> None:
    rng = np.random.default_rng(0)
    cutoffs = []
    for level in (0.02, 0.1, 0.5):
        noise = rng.normal(size=(2, *obj.shape)) + 1j * rng.normal(size=(2, *obj.shape))
        a, b = obj + level * noise
        cutoffs.append(metrics.fourier_ring_correlation(a, b, mask).cutoff or 0.5)
    assert cutoffs == sorted(cutoffs, reverse=True)
    assert cutoffs[2] < 0.35
    same = metrics.fourier_ring_correlation(obj, obj, mask)
    np.testing.assert_allclose(same.correlation, 1)
    assert same.cutoff is None
    assert same.half_period() is None


def test_half_period_is_in_the_unit_of_the_pixel() -> None:
    rings = metrics.RingCorrelation(np.array([0.25]), np.array([0.0]), np.array([0.5]), 0.25)
    assert rings.half_period(10e-9) == pytest.approx(20e-9)
