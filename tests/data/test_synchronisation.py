"""Phases of patches, recovered from their overlaps."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ptychopinn_ptychodus.data import metrics, synchronisation
from ptychopinn_ptychodus.data.assembly import assemble
from ptychopinn_ptychodus.data.grouping import group_neighbours
from ptychopinn_ptychodus.data.overlapping import triangulation
from ptychopinn_ptychodus.data.simulation import extract_patches
from ptychopinn_ptychodus.data.stitching import stitch
from ptychopinn_ptychodus.data.synchronisation import (
    synchronise_groups,
    synchronise_phases,
)

N = 64


def turned(patches: np.ndarray, factors: np.ndarray) -> np.ndarray:
    return patches * factors[:, None, None]


def test_random_phases_ruin_the_object_and_are_recovered(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = positions
    rng = np.random.default_rng(0)
    phases = np.exp(2j * np.pi * rng.random(len(x)))
    patches = (extract_patches(obj, x, y, N) * phases[:, None, None]).astype(np.complex64)
    weight = (np.abs(probe) ** 2).sum(0)
    mask = metrics.illumination_mask(probe, x, y, obj.shape)

    def score(stack: np.ndarray) -> metrics.Comparison:
        canvas = stitch(stack, x, y, obj.shape, weight=weight)
        return metrics.compare(canvas.object, obj, mask, max_shift=0)

    assert score(patches).amplitude.ssim < 0.5
    recovered = score(turned(patches, synchronise_phases(patches, x, y, weight)))
    assert recovered.amplitude.ssim > 0.98
    assert recovered.phase.ssim > 0.98


def test_amplitudes_are_not_touched(obj: np.ndarray) -> None:
    patches = extract_patches(obj, [60.0, 70.0], [60.0, 64.0], N) * np.exp([[[0.3j]], [[-1.2j]]])
    factors = synchronise_phases(patches, [60.0, 70.0], [60.0, 64.0])
    assert factors.dtype == np.complex64
    out = turned(patches, factors)
    np.testing.assert_allclose(np.abs(out), np.abs(patches), rtol=1e-5)
    np.testing.assert_allclose(out[0, 4:, 10:], out[1, :-4, :-10], atol=1e-4)


def test_patches_that_do_not_overlap_are_left_alone() -> None:
    patches = np.exp(1j * np.array([0.3, 1.1]))[:, None, None] * np.ones((2, 16, 16))
    np.testing.assert_array_equal(synchronise_phases(patches, [20.0, 90.0], [20.0, 20.0]), 1)
    np.testing.assert_array_equal(synchronise_phases(patches[:1], [20.0], [20.0]), 1)


def test_groups_with_random_phases_are_assembled_to_the_object(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = positions
    coords = np.stack([x, y], axis=-1)
    indices = group_neighbours(coords, 2, 6, None, seed=0)
    rng = np.random.default_rng(1)
    phases = np.exp(2j * np.pi * rng.random(len(indices)))[:, None, None, None]
    patches = (extract_patches(obj, x, y, N)[indices] * phases).astype(np.complex64)
    weight = (np.abs(probe) ** 2).sum(0)
    mask = metrics.illumination_mask(probe, x, y, obj.shape)
    canvas = assemble(patches, indices, coords, obj.shape, weight)
    scores = metrics.compare(canvas.object, obj, mask, max_shift=0)
    assert scores.amplitude.ssim > 0.98
    assert scores.phase.ssim > 0.98


def test_groups_without_any_overlap_are_left_alone() -> None:
    patches = np.exp(1j * np.arange(8.0)).reshape(2, 4, 1, 1) * np.ones((1, 1, 16, 16))
    coords = np.repeat([[20.0, 20.0], [90.0, 20.0]], 4, axis=0)
    factors = synchronise_groups(patches, np.arange(8).reshape(2, 4), coords, np.ones((16, 16)))
    np.testing.assert_array_equal(factors, 1)


def test_groups_that_share_no_pattern_agree_on_their_overlap(obj: np.ndarray) -> None:
    x, y = np.array([60.0, 62.0, 60.0, 62.0, 66.0, 68.0, 66.0, 68.0]), np.tile([60.0, 60.0, 63.0, 63.0], 2)
    patches = extract_patches(obj, x, y, N).reshape(2, 4, N, N)
    turn = np.exp(1j * np.array([0.4, 2.5]))
    indices = np.arange(8).reshape(2, 4)
    stack = (patches * turn[:, None, None, None]).astype(np.complex64)
    factors = synchronise_groups(stack, indices, np.stack([x, y], -1), np.ones((N, N)))
    np.testing.assert_allclose(factors[0] * turn[0], factors[1] * turn[1], atol=1e-3)


# ---- scans whose nearest neighbours alone do not tie them together ---------------------------------------


def layout(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions whose nearest neighbours fall into parts that do overlap."""
    if name == "fly":  # 1 px along a row, 8 px between rows
        x, y = np.meshgrid(50 + np.arange(60.0), 50 + 8.0 * np.arange(6))
    elif name == "bursts":  # more patterns at one point than there are neighbours
        x, y = (
            np.repeat(a.ravel(), 14) for a in np.meshgrid(50 + 9.0 * np.arange(4), 50 + 9.0 * np.arange(3))
        )
    elif name == "bursts on a line":
        x, y = np.repeat(50 + 9.0 * np.arange(8), 14), np.full(8 * 14, 60.0)
    else:  # one row, with gaps between runs of many
        x = np.concatenate([start + 0.5 * np.arange(24) for start in (40.0, 75.0, 110.0)])
        y = 50 + 0.5 * x
    return np.ravel(x), np.ravel(y)


def spoilt(
    obj: np.ndarray, x: np.ndarray, y: np.ndarray, gridsize: int, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True patches with a random phase for every group, their groups and positions."""
    coords = np.stack([x, y], axis=-1)
    indices = group_neighbours(coords, gridsize, max(6, gridsize**2 + 2), None, seed=0)
    phases = np.exp(2j * np.pi * np.random.default_rng(seed).random(len(indices)))[:, None, None, None]
    return (extract_patches(obj, x, y, N)[indices] * phases).astype(np.complex64), indices, coords


@pytest.mark.parametrize("gridsize", [1, 2, 3])
@pytest.mark.parametrize("name", ["fly", "bursts", "bursts on a line", "line"])
def test_whatever_overlaps_gets_one_phase(
    obj: np.ndarray, probe: np.ndarray, name: str, gridsize: int, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = layout(name)
    weight = (np.abs(probe) ** 2).sum(0)
    canvas = assemble(*spoilt(obj, x, y, gridsize), obj.shape, weight)
    mask = metrics.illumination_mask(probe, x, y, obj.shape)
    scores = metrics.compare(canvas.object, obj, mask, max_shift=0)
    assert scores.complex_correlation_centred > 0.99
    assert "fall into" not in caplog.text


@pytest.mark.parametrize("gridsize", [1, 2])
def test_islands_each_get_one_phase_and_a_warning_says_so(
    obj: np.ndarray, probe: np.ndarray, gridsize: int, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = (a.ravel() for a in np.meshgrid(40 + 6.0 * np.arange(5), 40 + 6.0 * np.arange(5)))
    x, y = np.concatenate([x, x + 96.0]), np.concatenate([y, y + 60.0])
    weight = (np.abs(probe) ** 2).sum(0)
    patches, indices, coords = spoilt(obj, x, y, gridsize)
    canvas = assemble(patches, indices, coords, obj.shape, weight)
    assert "fall into 2 parts that do not overlap" in caplog.text
    for part in (slice(0, 25), slice(25, 50)):
        mask = metrics.illumination_mask(probe, x[part], y[part], obj.shape)
        scores = metrics.compare(canvas.object, obj, mask, max_shift=0)
        assert scores.complex_correlation_centred > 0.99


def test_patches_that_meet_in_the_dark_are_not_joined(
    obj: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    # 40 of 64 pixels apart, but the beam ends long before: what numbers there are there mean nothing
    axis = np.arange(N) - (N - 1) / 2
    weight = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 4.0**2))
    x, y = (a.ravel() for a in np.meshgrid(50 + 3.0 * np.arange(5), 50 + 3.0 * np.arange(5)))
    x, y = np.concatenate([x, x + 52.0]), np.concatenate([y, y])
    turn = np.exp(2j * np.pi * np.random.default_rng(2).random(50))
    patches = extract_patches(obj, x, y, N) * turn[:, None, None]
    patches += 0.1 * np.random.default_rng(3).normal(size=patches.shape)
    after = synchronise_phases(patches.astype(np.complex64), x, y, weight) * turn
    assert "fall into 2 parts" in caplog.text
    for part in (after[:25], after[25:]):
        assert np.abs(part.mean()) > 0.99


@pytest.mark.parametrize("far", [10, 10**6, 10**9])
def test_a_triangulation_joins_all_points_however_far_one_is(far: int) -> None:
    # next to a far one, the others are as good as one point: rounding keeps them out of the mesh
    grid = np.stack(np.meshgrid(3 * np.arange(8), 3 * np.arange(8)), axis=-1).reshape(-1, 2)
    points = np.unique(np.concatenate([grid, [[far + 21, far // 3 + 21]]]), axis=0)
    assert set(triangulation(points).ravel()) == set(range(len(points)))


def test_every_island_is_turned_as_little_as_can_be(obj: np.ndarray, probe: np.ndarray) -> None:
    # patches that agree already keep their phases, in each part
    x, y = (a.ravel() for a in np.meshgrid(40 + 6.0 * np.arange(5), 40 + 6.0 * np.arange(5)))
    x, y = np.concatenate([x, x + 96.0]), np.concatenate([y, y + 60.0])
    factors = synchronise_phases(extract_patches(obj, x, y, N), x, y, (np.abs(probe) ** 2).sum(0))
    np.testing.assert_allclose(factors, 1, atol=0.02)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_assembling_holds_no_second_copy_of_the_patches(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray], gridsize: int
) -> None:
    x, y = positions
    patches, indices, coords = spoilt(obj, np.tile(x, 4), np.tile(y, 4), gridsize)
    before = patches.copy()
    tracemalloc.start()
    try:
        assemble(patches, indices, coords, obj.shape, (np.abs(probe) ** 2).sum(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(patches, before)
    assert peak < 0.5 * patches.nbytes


@pytest.mark.parametrize("gridsize", [1, 2])
def test_patches_that_are_no_numbers_are_refused(
    obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray], gridsize: int
) -> None:
    patches, indices, coords = spoilt(obj, *positions, gridsize)
    patches[3, 0, N // 2, N // 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        assemble(patches, indices, coords, obj.shape, (np.abs(probe) ** 2).sum(0))


@pytest.mark.parametrize("faintest", [-18, -14])
def test_patches_of_a_collapsed_network_are_brought_to_some_phase(faintest: int) -> None:
    # next to nothing but for a few pixels: overlaps over thirty orders of magnitude
    rng = np.random.default_rng(0)
    x, y = rng.uniform(20, 130, (2, 400))
    bright = rng.random((400, 16, 16)) < 0.05
    modulus = bright * 10.0 ** rng.uniform(faintest, 0, bright.shape)
    patches = (modulus * np.exp(1j * rng.normal(size=bright.shape))).astype(np.complex64)
    factors = synchronise_phases(patches, x, y)
    np.testing.assert_allclose(np.abs(factors), 1, rtol=1e-5)


def test_many_patches_are_synchronised_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    # what their matrix is factorised with takes less memory, and gives the same but for rounding
    rng = np.random.default_rng(4)
    first = np.repeat(np.arange(60), 3)
    pairs = np.stack([first, (first + np.tile([1, 2, 9], 60)) % 60], axis=-1)
    overlaps = np.exp(1j * rng.normal(0.0, 0.5, len(pairs))) * rng.uniform(1.0, 2.0, len(pairs))
    expected = synchronisation._phase_factors(pairs, overlaps, 60, "patches")
    monkeypatch.setattr(synchronisation, "_MANY", 20)
    found = synchronisation._phase_factors(pairs, overlaps, 60, "patches")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
