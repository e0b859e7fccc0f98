"""An object is held by its own spectrum where the counts say nothing, and free where they do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ptychopinn_ptychodus.refinement.arrays import NumpyArrays
from ptychopinn_ptychodus.refinement.noise import noise_of_root
from ptychopinn_ptychodus.refinement.prior import ObjectPrior

N, SHAPE = 64, (120, 128)


def pupil_pattern(photons: float) -> np.ndarray:
    y, x = np.indices((N, N)) - N // 2
    disk = (np.hypot(x, y) < 14).astype(float)
    return photons * disk / disk.sum()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 50.0])
def test_noise_is_found_in_the_unit_of_the_counts(unit: float) -> None:
    # 100 pixels of many counts, 20 of a tenth of one: those leave all that they have
    mean = unit * np.r_[np.full(100, 40.0), np.full(20, 0.1), np.zeros(8)]
    assert noise_of_root(mean, unit * (100 / 4 + 20 * 0.1)) == pytest.approx(unit / 4)


def test_more_than_all_counts_is_no_noise_of_a_pixel() -> None:
    assert noise_of_root(np.array([1.0, 4.0]), 100.0) == 4.0


def estimated(canvas: np.ndarray, counts_per_pixel: float) -> np.ndarray:
    """The estimate of which a canvas is the measurement, by gradient steps that are held."""
    mean = pupil_pattern(counts_per_pixel * 25.0)  # a pattern for every 25 pixels
    prior = ObjectPrior(mean, SHAPE, NumpyArrays())
    light = np.full(SHAPE, counts_per_pixel, np.float32)
    iterate = canvas
    for _ in range(10):
        prior.learn(iterate, light, float(np.minimum(mean, 0.25).sum()))
        for _ in range(8):
            iterate = prior.held(iterate + 0.5 * (canvas - iterate), 0.5)
    return iterate


def phase_object() -> np.ndarray:
    return 0.5 * ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 4)


def noisy(phase: np.ndarray, counts_per_pixel: float) -> np.ndarray:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(2, *SHAPE)) * np.sqrt(0.5 / counts_per_pixel)
    return np.asarray(np.exp(1j * phase) + noise[0] + 1j * noise[1], np.complex64)


def test_amplitude_of_noise_is_taken_back_and_the_phase_kept() -> None:
    phase = phase_object()
    canvas = noisy(phase, 400.0)
    held = estimated(canvas, 400.0)
    assert np.std(np.abs(held)) < 0.5 * np.std(np.abs(canvas))
    wrong = [np.std(np.angle(one) - phase) for one in (canvas, held)]
    assert wrong[1] < 0.7 * wrong[0]
    assert np.corrcoef(np.angle(held).ravel(), phase.ravel())[0, 1] > 0.8


def test_an_object_that_stands_out_of_the_noise_is_free() -> None:
    canvas = noisy(phase_object(), 1e9)
    smooth = ndimage.gaussian_filter(canvas, 2)
    held = estimated(smooth, 1e9)
    assert np.abs(held - smooth).max() < 1e-3


def test_a_global_phase_makes_no_difference() -> None:
    canvas, turn = noisy(phase_object(), 400.0), np.complex64(np.exp(2j))
    one, other = (estimated(each, 400.0) for each in (canvas, canvas * turn))
    np.testing.assert_allclose(other, one * turn, atol=2e-4)


def test_nothing_is_held_before_anything_is_learnt() -> None:
    canvas = noisy(phase_object(), 400.0)
    prior = ObjectPrior(pupil_pattern(1e4), SHAPE, NumpyArrays())
    np.testing.assert_array_equal(prior.held(canvas, 1.0), canvas)


@pytest.mark.parametrize("shape", [(120, 128), (125, 81)])
def test_both_parts_are_held_each_by_its_own_power(shape: tuple[int, int]) -> None:
    """Two Fourier transforms do what filters of the real and of the imaginary part do."""
    rng = np.random.default_rng(3)
    rough = rng.normal(size=shape) + 0.1j * rng.normal(size=shape)
    canvas: NDArray[np.complex64] = ((1.0 + 0.2 * rough) * np.exp(0.7j)).astype(np.complex64)
    prior = ObjectPrior(pupil_pattern(1e3), shape, NumpyArrays())
    prior.learn(canvas, np.full(shape, 100.0, np.float32), 200.0)
    turned, step = canvas * prior.turn, 0.4
    assert prior._hold is not None
    # of the other half of the frequencies, too: each part has the same there
    rows, columns = -np.arange(shape[0])[:, None], shape[1] - np.arange(shape[1] // 2 + 1, shape[1])
    holds = [np.hstack((half, half[rows, columns])) for half in prior._hold]
    parts = [
        np.fft.ifft2(np.fft.fft2(part) / (1.0 + step * hold)).real
        for part, hold in zip((turned.real, turned.imag), holds, strict=True)
    ]
    expected = (parts[0] + 1j * parts[1]) * np.conj(prior.turn)
    assert not np.allclose(expected, canvas, atol=1e-3)
    np.testing.assert_allclose(prior.held(canvas, step), expected, atol=1e-5)
