"""The engine's physics against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptychopinn_ptychodus.backends.lightning import forward, losses
from ptychopinn_ptychodus.data import simulation


def _complex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def _error(actual: torch.Tensor, expected: np.ndarray) -> float:
    difference = np.linalg.norm(actual.detach().numpy() - expected)
    return float(difference / np.linalg.norm(expected))


@given(seed=st.integers(0, 2**31), gridsize=st.sampled_from([1, 2, 3]), spread=st.floats(0.0, 30.0))
@settings(max_examples=25, deadline=None)
def test_merge_and_extract_agree_with_the_reference(seed: int, gridsize: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    channels = gridsize**2
    patches = _complex(rng, 2, channels, 32, 32)
    offsets = rng.uniform(-spread, spread, (2, channels, 2)).astype(np.float32)
    merged = forward.extract(
        forward.merge(torch.from_numpy(patches), torch.from_numpy(offsets)), torch.from_numpy(offsets), 32
    )
    # a common region for the batch: the reference takes groups one by one, each with a region of its own
    for group in range(2):
        expected = simulation.merge_and_extract(patches[group], offsets[group])
        # float32 coordinates of a region some 100 px wide are good to 1e-5 px
        assert _error(merged[group], expected) < 1e-4


@pytest.mark.parametrize("modes", [1, 3])
def test_diffraction_agrees_with_the_reference(rng: np.random.Generator, modes: int) -> None:
    patches, probe = _complex(rng, 2, 4, 64, 64), _complex(rng, modes, 64, 64)
    actual = forward.intensity(forward.illuminate(torch.from_numpy(patches), torch.from_numpy(probe)))
    for group in range(2):
        expected = simulation.diffraction_intensity(patches[group], probe)
        assert _error(actual[group], expected) < 1e-5


def test_modes_add_in_intensity_not_in_amplitude(rng: np.random.Generator) -> None:
    patches = torch.from_numpy(_complex(rng, 1, 1, 64, 64))
    probe = torch.from_numpy(_complex(rng, 1, 64, 64))
    cancelling = torch.cat((probe, -probe))
    single = forward.intensity(forward.illuminate(patches, probe))
    double = forward.intensity(forward.illuminate(patches, cancelling))
    torch.testing.assert_close(double, 2 * single)


def test_zero_frequency_is_at_the_centre() -> None:
    flat = torch.ones(1, 1, 64, 64, dtype=torch.complex64)
    pattern = forward.intensity(forward.illuminate(flat, flat[0]))[0, 0]
    assert int(pattern.argmax()) == 32 * 64 + 32
    assert float(pattern.max()) == pytest.approx(64**2)


def test_smoothing_keeps_a_constant_and_spreads_a_point() -> None:
    kernel = forward.gaussian_kernel(1.0)
    patches = torch.zeros(1, 1, 64, 64, dtype=torch.complex64)
    patches[..., 32, 32] = 1.0
    probe = torch.ones(1, 64, 64, dtype=torch.complex64)
    smoothed = forward.illuminate(patches, probe, kernel)[0, 0, 0]
    assert float(smoothed.real.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(smoothed[32, 32].real) == pytest.approx(1 / (2 * np.pi), rel=0.02)
    assert float(smoothed[32, 33].real) > 0


@pytest.mark.parametrize("masked", [False, True])
def test_losses_agree_with_the_reference(rng: np.random.Generator, masked: bool) -> None:
    counts = rng.poisson(50.0, (2, 4, 16, 16)).astype(np.float32)
    counts[0, 0, :2] = 0.0  # λ - n log λ is finite where nothing was counted
    expected = counts * rng.uniform(0.5, 1.5, counts.shape).astype(np.float32) + 0.1
    good = np.ones((16, 16), bool)
    if masked:
        good[3:6, 4:9] = False
        counts[..., ~good] = 1e9  # what a bad pixel says must not matter
    photons = float(counts[..., good].sum() / 8)
    weight = torch.from_numpy(good.astype(np.float32))
    nll = losses.poisson_nll(torch.from_numpy(counts), torch.from_numpy(expected), weight, photons)
    reference = simulation.poisson_nll(counts, expected, good) - simulation.poisson_floor(counts, good)
    assert float(nll) == pytest.approx(reference / 8 / photons, rel=1e-4)
    mae = losses.amplitude_mae(torch.from_numpy(np.sqrt(counts)), torch.from_numpy(expected), weight, 2.0)
    assert float(mae) == pytest.approx(simulation.amplitude_mae(counts, expected, good) / 2.0, rel=1e-4)


def test_aligned_difference_agrees_with_the_reference_and_sees_no_phase(rng: np.random.Generator) -> None:
    patches, truth = (rng.normal(size=(2, 3, 8, 8)) + 1j * rng.normal(size=(2, 3, 8, 8)) for _ in range(2))
    weight = rng.random((2, 1, 8, 8))
    expected = simulation.aligned_mae(patches, truth, weight)
    made = losses.aligned_mae(*map(torch.from_numpy, (patches, truth, weight)))
    assert float(made) == pytest.approx(expected, rel=1e-6)
    # by the definition: no phase of a patch that was tried is better in the mean of squares
    phases = np.exp(2j * np.pi * rng.random((2, 3, 1, 1)))
    assert simulation.aligned_mae(patches * phases, truth, weight) == pytest.approx(expected, rel=1e-9)
    assert simulation.aligned_mae(truth * phases, truth, weight) < 1e-9
    assert simulation.aligned_mae(0.5 * truth, truth, np.ones((8, 8))) == pytest.approx(
        0.5 * np.abs(truth).mean()
    )


def test_a_twin_that_is_nearer_is_what_a_patch_is_compared_with(rng: np.random.Generator) -> None:
    truth, twin = (rng.normal(size=(2, 1, 8, 8)) + 1j * rng.normal(size=(2, 1, 8, 8)) for _ in range(2))
    weight = rng.random((8, 8))
    patches = np.stack((0.95 * truth[0], 0.9 * twin[1]))  # one of either
    expected = simulation.aligned_mae(patches, truth, weight, twin)
    nearer = np.stack((truth[0], twin[1]))
    assert expected == pytest.approx(simulation.aligned_mae(patches, nearer, weight))
    made = losses.aligned_mae(*map(torch.from_numpy, (patches, truth, weight, twin)))
    assert float(made) == pytest.approx(expected, rel=1e-6)


def test_aligned_difference_of_nothing_has_gradients() -> None:
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.complex64, requires_grad=True)
    losses.aligned_mae(nothing, torch.ones(1, 1, 8, 8, dtype=torch.complex64), torch.ones(8, 8)).backward()
    assert nothing.grad is not None
    assert torch.isfinite(torch.view_as_real(nothing.grad)).all()


def test_total_variation_is_zero_for_a_flat_object_and_has_gradients_there() -> None:
    flat = torch.full((1, 1, 8, 8), 0.5 + 0.5j, requires_grad=True)
    value = losses.total_variation(flat)
    value.backward()
    assert float(value.detach()) < 1e-5
    assert flat.grad is not None
    assert torch.isfinite(torch.view_as_real(flat.grad)).all()
