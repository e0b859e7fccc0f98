"""The reference forward model and simulated scans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ptychopinn_ptychodus.data import simulation as sim
from ptychopinn_ptychodus.data.raw import RawData

N = 64


def random_patches(seed: int, c: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(c, n, n)) + 1j * rng.normal(size=(c, n, n))


@given(
    seed=st.integers(0, 1000),
    c=st.integers(1, 3),
    modes=st.integers(1, 3),
    n=st.sampled_from([8, 16, 31]),
)
@settings(max_examples=30, deadline=None)
def test_propagation_keeps_energy_and_modes_add_incoherently(seed: int, c: int, modes: int, n: int) -> None:
    patches, probe = random_patches(seed, c, n), random_patches(seed + 1, modes, n)
    intensity = sim.diffraction_intensity(patches, probe)
    light = np.abs(patches[:, None] * probe[None]) ** 2
    np.testing.assert_allclose(intensity.sum(axis=(1, 2)), light.sum(axis=(1, 2, 3)))
    separately = sum(sim.diffraction_intensity(patches, mode[None]) for mode in probe)
    np.testing.assert_allclose(intensity, separately)


def test_zero_frequency_is_at_half_n() -> None:
    intensity = sim.diffraction_intensity(np.ones((1, N, N)), np.ones((1, N, N)))
    assert np.unravel_index(intensity[0].argmax(), (N, N)) == (N // 2, N // 2)
    # a phase ramp that rises with the column moves the light to larger columns
    ramp = np.exp(2j * np.pi * 5 * np.arange(N) / N) * np.ones((N, 1))
    moved = sim.diffraction_intensity(ramp[None], np.ones((1, N, N)))
    assert np.unravel_index(moved[0].argmax(), (N, N)) == (N // 2, N // 2 + 5)


@given(dx=st.floats(-20, 20), dy=st.floats(-20, 20), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_bilinear_shift_agrees_with_scipy(dx: float, dy: float, seed: int) -> None:
    image = random_patches(seed, 1, 15)[0]
    expected = ndimage.shift(np.pad(image, 25), (dy, dx), order=1)[25:-25, 25:-25]
    np.testing.assert_allclose(sim.shift_bilinear(image, dx, dy), expected, atol=1e-9)


@given(
    x=st.lists(st.integers(-6, 6), min_size=4, max_size=4),
    y=st.lists(st.integers(-6, 6), min_size=4, max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_consistent_patches_pass_through_merge_and_extract(x: list[int], y: list[int]) -> None:
    # four patches of one object at whole pixels: only the epsilon changes them
    n, centre = 16, 20
    truth = random_patches(0, 1, 60)[0]
    offsets = np.stack([x, y], axis=-1)
    corners = centre + offsets
    patches = np.stack([truth[top : top + n, left : left + n] for left, top in corners])
    np.testing.assert_allclose(sim.merge_and_extract(patches, offsets), patches, rtol=1.1e-3)


def test_merge_of_one_patch_at_the_centre_is_that_patch() -> None:
    patch = random_patches(1, 1, 8)
    region = sim.merge(patch, np.zeros((1, 2)))
    assert region.shape == (10, 10)
    np.testing.assert_allclose(region[1:-1, 1:-1], patch[0] / 1.001)
    assert (region[0] == 0).all()


def test_merge_follows_its_formula_off_the_grid() -> None:
    ones = np.ones((1, 4, 4))
    region = sim.merge(ones, np.array([[0.25, -0.5]]))
    border = sim.region_border([[0.25, -0.5]])
    assert border == 2
    count = np.zeros((8, 8))
    column = np.array([0, 0, 0.75, 1, 1, 1, 0.25, 0])
    row = np.array([0, 0.5, 1, 1, 1, 0.5, 0, 0])
    count = row[:, None] * column[None]
    np.testing.assert_allclose(region, count / (count + 1e-3), atol=1e-12)


def test_offsets_move_along_x_first() -> None:
    patch = np.zeros((1, 8, 8))
    patch[0, 4, 4] = 1
    region = sim.merge(patch, np.array([[3.0, 0.0]]))
    border = sim.region_border([[3.0, 0.0]])
    assert np.abs(region[border + 4, border + 7]) == pytest.approx(1 / 1.001)


def test_losses_of_the_reference_are_smallest_at_the_truth() -> None:
    expected = sim.predicted_counts(random_patches(0, 2, 16), random_patches(1, 1, 16), 1.0)
    counts = np.random.default_rng(0).poisson(expected)
    best = sim.poisson_nll(counts, expected)
    assert best < sim.poisson_nll(counts, 1.2 * expected)
    assert best < sim.poisson_nll(counts, 0.8 * expected)
    assert sim.poisson_floor(counts) < best
    assert sim.amplitude_mae(expected, expected) == 0
    with pytest.raises(ValueError, match="above 0 on every good pixel"):
        sim.poisson_nll(counts, np.zeros_like(expected))


def test_bad_pixels_take_no_part_in_losses() -> None:
    expected = sim.predicted_counts(random_patches(0, 2, 16), random_patches(1, 1, 16), 0.0)
    counts, spoilt = expected.copy(), expected.copy()
    good = np.ones((16, 16), bool)
    good[3, 4] = False
    spoilt[:, 3, 4] = 1e9
    assert sim.poisson_nll(spoilt, expected, good) == pytest.approx(sim.poisson_nll(counts, expected, good))
    assert sim.amplitude_mae(spoilt, expected, good) == 0


def test_log_scale_multiplies_counts_by_exp_two_alpha() -> None:
    patches, probe = random_patches(0, 1, 8), random_patches(1, 2, 8)
    ratio = sim.predicted_counts(patches, probe, 1.5) / sim.predicted_counts(patches, probe, 0.5)
    np.testing.assert_allclose(ratio, np.exp(2.0))


def test_scan_has_the_photons_and_the_probe_that_it_claims(
    scan: RawData, obj: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    assert scan.photons_per_pattern == pytest.approx(1e5, rel=1e-2)
    k = 50
    x, y = (p[k : k + 1] for p in positions)
    expected = sim.diffraction_intensity(sim.extract_patches(obj, x, y, N), scan.probeGuess)[0]
    counts = scan.diff3d[k].astype(float) ** 2
    lit = expected > 20
    # counts scatter about the expectation as Poisson numbers do
    chi2 = ((counts - expected)[lit] ** 2 / expected[lit]).mean()
    assert chi2 == pytest.approx(1.0, abs=0.25)


def test_without_noise_the_counts_are_the_expectation(obj: np.ndarray, probe: np.ndarray) -> None:
    raw = sim.simulate_scan(obj, probe, [80.3], [70.6], 1e6, None, noise=False)
    expected = sim.diffraction_intensity(sim.extract_patches(obj, [80.3], [70.6], N), raw.probeGuess)
    np.testing.assert_allclose(raw.diff3d.astype(float) ** 2, expected, rtol=1e-3, atol=1e-3)


@given(step=st.floats(1, 20), jitter=st.floats(0, 0.5), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_raster_stays_near_its_grid(step: float, jitter: float, seed: int) -> None:
    x, y = sim.raster_positions(5, 3, step, jitter=jitter, origin=10.0, seed=seed)
    assert x.shape == y.shape == (15,)
    assert np.abs(x.reshape(3, 5) - (10 + step * np.arange(5))).max() <= jitter * step + 1e-9
    assert np.abs(y.reshape(3, 5) - (10 + step * np.arange(3))[:, None]).max() <= jitter * step + 1e-9


@pytest.mark.parametrize("kind", ["siemens", "blobs", "lines", "mixed"])
def test_objects_keep_to_their_ranges_and_seeds(kind: str) -> None:
    one, same, other = (sim.make_object((90, 100), kind, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.abs(one).min() > 0.3
    assert np.abs(one).max() <= 1.0 + 1e-6
    assert np.abs(np.angle(one)).max() <= 0.8 + 1e-6
    assert np.abs(one).std() > 0.02
    assert np.angle(one).std() > 0.05


def test_an_unknown_kind_of_object_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind = 'cat'.*'siemens'"):
        sim.make_object((64, 64), "cat")


@pytest.mark.parametrize("n", [64, 128, 256])
def test_probe_is_finite_normalised_and_smooth(n: int) -> None:
    probe = sim.make_probe(n, modes=3)
    power = (np.abs(probe) ** 2).sum(axis=(1, 2))
    assert power.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(power[1:] / power[:-1], 0.1, rtol=1e-4)
    intensity = (np.abs(probe) ** 2).sum(0)
    border = np.concatenate([intensity[0], intensity[-1], intensity[:, 0], intensity[:, -1]])
    assert border.max() < 1e-2 * intensity.max()
    # the far field fits on the detector
    far = sim.diffraction_intensity(np.ones((1, n, n)), probe)[0]
    assert far[n // 8 : -n // 8, n // 8 : -n // 8].sum() > 0.99 * far.sum()
