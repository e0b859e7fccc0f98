"""The stitcher: true patches in, truth out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal
from skimage.metrics import structural_similarity

from ptychopinn_ptychodus.data.interpolation import PatchCutter, convolved
from ptychopinn_ptychodus.data.metrics import illumination_mask
from ptychopinn_ptychodus.data.stitching import coverage_of, stitch

N = 64


@pytest.mark.parametrize("shapes", [((70, 93), (64, 64)), ((64, 64), (64, 64)), ((5, 1), (2, 3))])
def test_a_convolution_is_that_of_scipy(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=shape) for shape in shapes)
    np.testing.assert_allclose(convolved(one, other), signal.fftconvolve(one, other), atol=1e-12)


def ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    _, full = structural_similarity(
        b, a, data_range=np.ptp(b[mask]), full=True, gaussian_weights=True, use_sample_covariance=False
    )
    return float(full[mask].mean())


def fourier_patches(obj: np.ndarray, x: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """Exact sub-pixel patches of the periodic continuation of an object: independent of our splines."""
    spectrum = np.fft.fft2(obj)
    fy, fx = np.fft.fftfreq(obj.shape[0])[:, None], np.fft.fftfreq(obj.shape[1])[None]
    patches = []
    for cx, cy in zip(x - (n - 1) / 2, y - (n - 1) / 2, strict=True):
        i, j = int(np.floor(cy)), int(np.floor(cx))
        moved = np.fft.ifft2(spectrum * np.exp(2j * np.pi * (fy * (cy - i) + fx * (cx - j))))
        patches.append(moved[i : i + n, j : j + n])
    return np.array(patches, np.complex64)


@pytest.mark.parametrize("weighted", [True, False])
def test_true_patches_give_the_true_object(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray], weighted: bool
) -> None:
    x, y = positions
    weight = (np.abs(probe) ** 2).sum(0) if weighted else None
    canvas = stitch(fourier_patches(obj, x, y, N), x, y, obj.shape, weight=weight)
    mask = illumination_mask(probe, x, y, obj.shape)
    assert ssim(np.abs(canvas.object), np.abs(obj), mask) > 0.99
    assert ssim(np.angle(canvas.object), np.angle(obj), mask) > 0.99


def test_mirrored_patches_or_positions_do_not(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    # the same test must fail for each mistake of sign or order that a stitcher can make
    x, y = positions
    patches = fourier_patches(obj, x, y, N)
    mask = illumination_mask(probe, x, y, obj.shape)
    inner = (x > 50) & (x < 130) & (y > 50) & (y < 130)
    wrong = {
        "mirrored": stitch(patches[:, ::-1, ::-1], x, y, obj.shape),
        "transposed": stitch(patches[inner].transpose(0, 2, 1), x[inner], y[inner], obj.shape),
        "x and y exchanged": stitch(patches[inner], y[inner], x[inner], obj.shape),
        "rounded away": stitch(patches, x + 1.0, y, obj.shape),
    }
    for name, canvas in wrong.items():
        assert ssim(np.angle(canvas.object), np.angle(obj), mask) < 0.95, name


def test_as_good_as_splines_patch_by_patch(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = (p[:40] for p in positions)
    patches = fourier_patches(obj, x, y, N)
    weight = (np.abs(probe) ** 2).sum(0)
    total, count = np.zeros(obj.shape, complex), np.zeros(obj.shape)
    for patch, cx, cy in zip(patches, x - (N - 1) / 2, y - (N - 1) / 2, strict=True):
        i, j = int(np.floor(cy)), int(np.floor(cx))
        part = np.s_[i - 8 : i + N + 8, j - 8 : j + N + 8]
        if min(i, j) < 8:
            continue
        padded = np.pad(patch * weight, 8)
        total[part] += ndimage.shift(padded.real, (cy - i, cx - j)) + 1j * ndimage.shift(
            padded.imag, (cy - i, cx - j)
        )
        count[part] += ndimage.shift(np.pad(weight, 8), (cy - i, cx - j))
    used = (x - (N - 1) / 2 >= 8) & (y - (N - 1) / 2 >= 8)
    assert used.sum() > 10
    canvas = stitch(patches[used], x[used], y[used], obj.shape, weight=weight)
    lit = count > 0.1 * count.max()
    np.testing.assert_allclose(canvas.object[lit], total[lit] / count[lit], atol=1e-4)


@given(
    k=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    value=st.complex_numbers(min_magnitude=0.1, max_magnitude=10, allow_nan=False),
    exponent=st.integers(-12, 12),
)
@settings(max_examples=60, deadline=None)
def test_a_constant_object_stays_constant_wherever_there_was_light(
    k: int, seed: int, value: complex, exponent: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 60, (2, k))
    weight = ndimage.gaussian_filter(rng.random((16, 16)), 2) * 10.0**exponent
    canvas = stitch(np.full((k, 16, 16), value), x, y, (61, 61), weight=weight, fill=0)
    inside = canvas.object[canvas.object != 0]
    assert inside.size
    np.testing.assert_allclose(inside, value, rtol=2e-4)


@given(seed=st.integers(0, 10_000), order=st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None)
def test_patches_cut_at_whole_pixels_are_put_back_exactly(seed: int, order: int) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.normal(size=(50, 70)) + 1j * rng.normal(size=(50, 70))).astype(np.complex64)
    x, y = rng.integers(8, 61, 40) - 0.5, rng.integers(8, 41, 40) - 0.5
    canvas = stitch(PatchCutter(truth, 16, order=order)(x, y), x, y, truth.shape, fill=0)
    lit = canvas.object != 0
    assert lit.sum() > 1000
    np.testing.assert_allclose(canvas.object[lit], truth[lit], atol=2e-4)


def test_whole_pixel_coverage_is_a_count() -> None:
    canvas = stitch(np.ones((2, 8, 8), complex), [9.5, 11.5], [9.5, 9.5], (20, 24))
    expected = np.zeros((20, 24))
    expected[6:14, 6:14] += 1
    expected[6:14, 8:16] += 1
    np.testing.assert_allclose(canvas.coverage, expected, atol=1e-5)
    assert canvas.coverage.dtype == np.float32
    assert canvas.object.dtype == np.complex64


def test_unlit_pixels_hold_the_fill_value_and_nothing_wraps_around(probe: np.ndarray) -> None:
    weight = (np.abs(probe) ** 2).sum(0)
    patches = np.full((1, N, N), 5.0 + 0j)
    canvas = stitch(patches, [0.3], [0.3], (200, 200), weight=weight)
    assert (canvas.object[:, 80:] == 1).all()
    assert (canvas.object[80:] == 1).all()
    assert canvas.object[0, 0] == pytest.approx(5.0, rel=1e-4)
    assert canvas.coverage[:, 80:].max() < 1e-6 * canvas.coverage.max()


def test_cropping_is_logged_with_its_extent(caplog: pytest.LogCaptureFixture) -> None:
    patches, x = np.ones((3, 16, 16), complex), np.array([7.5, 20.0, 38.0])
    with caplog.at_level(logging.WARNING):
        stitch(patches, x, [20.0, 20.0, 20.0], (40, 40))
    assert "1 of 3 patches reach beyond the canvas of 40 × 40" in caplog.text


def test_patches_that_fit_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    stitch(np.ones((1, 16, 16), complex), [7.5], [7.5], (16, 16))
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": [50.0, 8.0]}, "1 of 2 positions are outside.*number 0 at x = 50"),
        ({"y": [8.0, np.nan]}, "outside"),
        ({"x": [8.0]}, "2 patches have 1 x and 2 y"),
        ({"patches": np.ones((2, 16, 8), complex)}, "patches has the shape"),
        ({"patches": np.ones((0, 16, 16), complex), "x": [], "y": []}, "at least one"),
        ({"patches": np.full((2, 16, 16), np.nan + 0j)}, "patches hold NaN"),
        ({"factors": np.ones(3, complex)}, "factors has the shape"),
        ({"weight": np.ones((8, 8))}, "weight has the shape"),
        ({"weight": np.zeros((16, 16))}, "somewhere above 0"),
        ({"weight": -np.ones((16, 16))}, "not negative"),
    ],
)
def test_what_cannot_be_stitched_is_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"patches": np.ones((2, 16, 16), complex), "x": [8.0, 12.0], "y": [8.0, 9.0]}
    with pytest.raises(ValueError, match=message):
        stitch(**{**arguments, **change}, shape=(40, 40))


def test_factors_multiply_their_patches(obj: np.ndarray, positions: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (p[:30] for p in positions)
    patches = PatchCutter(obj, N, order=3)(x, y)
    factors = np.exp(1j * np.arange(30)).astype(np.complex64)
    plain = stitch(patches * factors[:, None, None], x, y, obj.shape)
    np.testing.assert_allclose(
        stitch(patches, x, y, obj.shape, factors=factors).object, plain.object, atol=1e-4
    )


def test_coverage_of_is_the_coverage_of_stitch(
    probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    weight = (np.abs(probe) ** 2).sum(0)
    x, y = positions
    canvas = stitch(np.ones((len(x), N, N), complex), x, y, (180, 200), weight=weight)
    np.testing.assert_allclose(coverage_of(weight, x, y, (180, 200)), canvas.coverage, rtol=1e-4, atol=1e-9)


def test_cutting_outside_the_object_is_refused() -> None:
    with pytest.raises(ValueError, match="outside the object array of 30 × 40"):
        PatchCutter(np.ones((30, 40), complex), 8)([45.0], [10.0])


SYNTHETIC = Path(__file__).parents[3] / "shared" / "data" / "synthetic" / "truth.npz"


@pytest.mark.skipif(not SYNTHETIC.is_file(), reason=f"needs the test data {SYNTHETIC}")
def test_true_patches_of_an_experimental_probe_and_scan_give_the_true_object() -> None:
    with np.load(SYNTHETIC) as data:
        truth, probe, (y, x) = data["object"], data["probe"], data["positions_rc_px"].T
    weight = np.abs(probe) ** 2
    canvas = stitch(fourier_patches(truth, x, y, N), x, y, truth.shape, weight=weight)
    mask = illumination_mask(probe, x, y, truth.shape)
    assert ssim(np.abs(canvas.object), np.abs(truth), mask) > 0.99
    assert ssim(np.angle(canvas.object), np.angle(truth), mask) > 0.99
