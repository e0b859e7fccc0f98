"""Neighbour groups and the container that engines read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ptychopinn_ptychodus.data.grouping import group_neighbours, nearest_to_grid
from ptychopinn_ptychodus.data.raw import RawData

N = 64


@given(
    m=st.integers(4, 60),
    gridsize=st.integers(1, 3),
    extra=st.integers(0, 6),
    n_groups=st.none() | st.integers(1, 150),
    seed=st.integers(0, 10_000),
    sequential=st.booleans(),
    crowded=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_groups_are_an_anchor_and_distinct_near_neighbours(
    m: int, gridsize: int, extra: int, n_groups: int | None, seed: int, sequential: bool, crowded: bool
) -> None:
    channels = gridsize**2
    m = max(m, channels)
    neighbours = channels - 1 + extra
    coords = np.random.default_rng(seed).uniform(0, 50, (m, 2))
    if crowded:  # several patterns at the same place
        coords = np.round(coords / 25) * 25
    groups = group_neighbours(coords, gridsize, neighbours, n_groups, seed=seed, sequential=sequential)

    assert groups.dtype == np.int64
    assert groups.shape == (m if n_groups is None else n_groups, channels)
    assert groups.min() >= 0
    assert groups.max() < m
    assert all(len(set(g)) == channels for g in groups)
    distance = cdist(coords, coords)
    np.fill_diagonal(distance, -1)
    reach = np.sort(distance, axis=1)[:, min(neighbours, m - 1)]
    anchors = groups[:, 0]
    assert (distance[anchors[:, None], groups] <= reach[anchors, None] + 1e-9).all()
    times = np.bincount(anchors, minlength=m)
    assert times.max() - times.min() <= 1
    if n_groups is None or (sequential and n_groups <= m):
        np.testing.assert_array_equal(anchors, np.arange(len(groups)))
    again = group_neighbours(coords, gridsize, neighbours, n_groups, seed=seed, sequential=sequential)
    np.testing.assert_array_equal(groups, again)


def test_anchors_in_order_need_no_seed_to_be_drawn_again() -> None:
    coords = np.random.default_rng(0).uniform(0, 10, (50, 2))
    first, second = (group_neighbours(coords, 2, 12, 70, seed=None, sequential=True) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first, second = (group_neighbours(coords, 2, 12, 70, seed=None) for _ in range(2))
    assert not np.array_equal(first, second)


def test_every_neighbour_is_drawn_equally_often() -> None:
    coords = np.random.default_rng(0).uniform(0, 10, (50, 2))
    groups = group_neighbours(coords, 2, 6, 50 * 2000, seed=1)
    drawn = groups[groups[:, 0] == 7, 1:]
    _, times = np.unique(drawn, return_counts=True)
    assert len(times) == 6
    # 2000 draws of 3 out of 6: 1000 each, standard deviation 22
    assert np.abs(times - 1000).max() < 120


def test_oversampling_and_seeds_give_different_draws() -> None:
    coords = np.random.default_rng(0).uniform(0, 10, (50, 2))
    groups = group_neighbours(coords, 2, 12, 100, seed=1)
    assert not np.array_equal(groups[:50], groups[50:])
    assert not np.array_equal(groups, group_neighbours(coords, 2, 12, 100, seed=2))


@pytest.mark.parametrize(
    ("gridsize", "neighbours", "n_groups", "m", "message"),
    [
        (2, 2, None, 20, "neighbor_count = 2 is too small for gridsize = 2.*>= 3"),
        (2, 4, None, 3, "groups 4 patterns, but the scan has 3"),
        (0, 4, None, 20, "gridsize = 0"),
        (1, 4, 0, 20, "n_groups = 0"),
    ],
)
def test_impossible_groups_are_refused(
    gridsize: int, neighbours: int, n_groups: int | None, m: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        group_neighbours(np.random.default_rng(0).random((m, 2)), gridsize, neighbours, n_groups, seed=0)


@given(
    sizes=st.lists(st.integers(4, 20), min_size=1, max_size=4),
    neighbours=st.integers(3, 12),
    n_groups=st.none() | st.integers(1, 100),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_groups_keep_to_their_scan(
    sizes: list[int], neighbours: int, n_groups: int | None, seed: int
) -> None:
    # scans that lie upon each other, their patterns in any order, and some smaller than the neighbourhood
    rng = np.random.default_rng(seed)
    scan = rng.permutation(np.repeat(np.arange(len(sizes)) * 7 - 3, sizes))
    coords = rng.uniform(0, 20, (len(scan), 2))
    groups = group_neighbours(coords, 2, neighbours, n_groups, seed=seed, scan_index=scan)
    assert (scan[groups] == scan[groups[:, :1]]).all()
    assert all(len(set(g)) == 4 for g in groups)
    distance = np.where(scan[:, None] == scan, cdist(coords, coords), np.inf)
    reach = np.sort(distance, axis=1)
    last = np.minimum(neighbours, np.bincount(scan + 3)[scan + 3] - 1)
    assert (distance[groups[:, :1], groups] <= reach[groups[:, 0], last[groups[:, 0]]][:, None] + 1e-9).all()


def test_one_scan_by_any_number_is_drawn_as_ever() -> None:
    coords = np.random.default_rng(0).uniform(0, 10, (50, 2))
    plain = group_neighbours(coords, 2, 6, 70, seed=1)
    np.testing.assert_array_equal(
        plain, group_neighbours(coords, 2, 6, 70, seed=1, scan_index=np.full(50, 3))
    )
    # the draw that this package has made since its first version
    assert plain[:3].tolist() == [[0, 12, 21, 17], [1, 29, 10, 9], [2, 49, 43, 45]]


def test_a_scan_too_small_for_a_group_is_named() -> None:
    coords = np.random.default_rng(0).uniform(0, 10, (20, 2))
    scan = np.repeat([4, 9], [17, 3])
    with pytest.raises(ValueError, match="scan with scan_index 9 has 3"):
        group_neighbours(coords, 2, 6, None, seed=0, scan_index=scan)
    assert len(group_neighbours(coords, 1, 6, None, seed=0, scan_index=scan)) == 20


def test_container_keeps_scans_apart(scan: RawData) -> None:
    from ptychopinn_ptychodus.data.raw import RawData

    numbers = np.arange(len(scan)) % 2
    several = RawData(
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        diff3d=scan.diff3d,
        probeGuess=scan.probeGuess,
        scan_index=numbers,
        domain="amplitude",
    )
    members = several.generate_grouped_data(N, 7, None, gridsize=2, seed=0).nn_indices
    assert (numbers[members] == numbers[members[:, :1]]).all()


def test_a_stray_position_is_named_instead_of_a_region_of_thousands_of_pixels(fields: dict[str, Any]) -> None:
    from ptychopinn_ptychodus.data.raw import RawData

    x, y = (a.ravel() for a in np.meshgrid(40.0 + 6 * np.arange(6), 40.0 + 6 * np.arange(6)))
    x[17] += 3000
    raw = RawData(xcoords=x, ycoords=y, diff3d=np.ones((36, N, N)), probeGuess=fields["probeGuess"])
    with pytest.raises(
        ValueError,
        match=r"N/2 = 32 .*furthest: pattern 17 at x = 3070, y = 52 \(22\d\d px\)\..*smaller gridsize",
    ):
        raw.generate_grouped_data(N, 6, None, gridsize=2, seed=0)
    assert len(raw.generate_grouped_data(N, 6, None)) == 36


@given(seed=st.integers(0, 10_000), n_groups=st.none() | st.integers(1, 150))
@settings(max_examples=40, deadline=None)
def test_no_seed_draws_a_group_that_is_torn_apart(seed: int, n_groups: int | None) -> None:
    """Eight of the eleven nearest of a raster's corner pattern can be on one side, and beyond N/2."""
    from ptychopinn_ptychodus.data.raw import RawData

    x, y = (a.ravel() for a in np.meshgrid(40.0 + 20 * np.arange(8), 40.0 + 11 * np.arange(8)))
    raw = RawData(
        xcoords=x, ycoords=y, diff3d=np.ones((64, N, N)), probeGuess=np.ones((N, N), complex), domain="counts"
    )
    drawn = group_neighbours(np.stack((x, y), -1), 3, 11, n_groups, seed=seed)
    container = raw.generate_grouped_data(N, 11, n_groups, gridsize=3, seed=seed)
    assert np.abs(container.coords_relative).max() <= N / 2
    members = container.nn_indices
    assert all(len(set(group)) == 9 for group in members)
    np.testing.assert_array_equal(members[:, 0], drawn[:, 0])
    places = np.stack((x, y), -1)[drawn]
    together = np.abs(places - places.mean(axis=1, keepdims=True)).max(axis=(1, 2)) <= N / 2
    np.testing.assert_array_equal(members[together], drawn[together])


def test_positions_in_a_wrong_unit_are_refused_with_a_few_of_them(fields: dict[str, Any]) -> None:
    from ptychopinn_ptychodus.data.raw import RawData

    x, y = (a.ravel() for a in np.meshgrid(600.0 * np.arange(6), 600.0 * np.arange(6)))
    raw = RawData(xcoords=x, ycoords=y, diff3d=np.ones((36, N, N)), probeGuess=fields["probeGuess"])
    with pytest.raises(ValueError, match="36 of 36 groups") as caught:
        raw.generate_grouped_data(N, 6, None, gridsize=2, seed=0)
    assert str(caught.value).count("pattern ") == 3


def test_container_follows_the_contract(scan: RawData) -> None:
    container = scan.generate_grouped_data(N, 7, 30, gridsize=2, seed=4)
    assert len(container) == 30
    assert (container.N, container.gridsize) == (N, 2)
    assert container.diffraction.shape == (30, N, N, 4)
    assert container.diffraction.dtype == np.float32
    assert container.diffraction.flags.c_contiguous
    assert container.coords_offsets.shape == (30, 1, 2, 1)
    assert container.coords_relative.shape == (30, 1, 2, 4)
    assert container.coords_relative.dtype == np.float32
    np.testing.assert_array_equal(container.X, container.diffraction)
    # positions and patterns of every channel are those of the pattern that nn_indices names, [x, y]
    absolute = container.coords_offsets + container.coords_relative
    for b, c in ((0, 0), (3, 1), (29, 3)):
        k = container.nn_indices[b, c]
        np.testing.assert_array_equal(container.diffraction[b, :, :, c], scan.diff3d[k])
        np.testing.assert_allclose(absolute[b, 0, :, c], [scan.xcoords[k], scan.ycoords[k]], atol=1e-4)
    np.testing.assert_allclose(container.coords_relative.mean(axis=-1), 0, atol=1e-5)


def test_batches_are_gathered_in_the_order_asked_for(scan: RawData) -> None:
    container = scan.generate_grouped_data(N, 7, 30, gridsize=2, seed=4)
    np.testing.assert_array_equal(container.batch([5, 2]), container.diffraction[[5, 2]])
    assert container.Y is not None
    np.testing.assert_array_equal(container.patches_for([5, 2]), container.Y[[5, 2]])


def test_input_scale_brings_the_mean_energy_to_a_quarter_of_the_pixels(scan: RawData) -> None:
    container = scan.generate_grouped_data(N, 4, None)
    energy = ((container.input_scale * scan.diff3d.astype(float)) ** 2).sum(axis=(1, 2)).mean()
    assert energy == pytest.approx((N / 2) ** 2, rel=1e-5)


def test_object_patches_lie_where_the_positions_say(scan: RawData, obj: np.ndarray) -> None:
    container = scan.generate_grouped_data(N, 4, None)
    assert container.Y is not None
    assert container.Y.dtype == np.complex64
    k = 5
    column, row = scan.xcoords[k] - (N - 1) / 2, scan.ycoords[k] - (N - 1) / 2
    whole = obj[round(row) : round(row) + N, round(column) : round(column) + N]
    off = obj[round(column) : round(column) + N, round(row) : round(row) + N]
    patch = container.Y[k, :, :, 0]
    assert np.abs(patch - whole).mean() < 0.5 * np.abs(patch - off).mean()


def test_data_without_an_object_have_no_object_patches(fields: dict[str, Any]) -> None:
    from ptychopinn_ptychodus.data.raw import RawData

    container = RawData(**fields).generate_grouped_data(N, 4, None)
    assert container.Y is None
    with pytest.raises(ValueError, match="no objectGuess"):
        container.patches_for([0])


def test_mapped_scans_are_grouped_without_being_read(scan: RawData, tmp_path: Path) -> None:
    scan.to_directory(tmp_path)
    from ptychopinn_ptychodus.data.raw import RawData

    container = RawData.from_directory(tmp_path).generate_grouped_data(N, 7, None, gridsize=2, seed=0)
    assert isinstance(container.amplitude, np.memmap)
    expected = scan.generate_grouped_data(N, 7, None, gridsize=2, seed=0)
    np.testing.assert_array_equal(container.batch([3]), expected.batch([3]))


@given(
    count=st.integers(1, 80),
    pitch=st.floats(0.1, 100.0),
    offset=st.floats(-1e3, 1e3),
    seed=st.integers(0, 10_000),
    crowded=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_of_each_cell_of_a_grid_the_point_nearest_to_its_middle_is_taken(
    count: int, pitch: float, offset: float, seed: int, crowded: bool
) -> None:
    points = offset + np.random.default_rng(seed).uniform(0, 50, (count, 2))
    if crowded:  # several points at the same place
        points = np.round(points / 25) * 25
    chosen = nearest_to_grid(points, pitch)

    assert chosen.dtype == np.int64
    assert (np.diff(chosen) > 0).all()
    cells = np.round(points / pitch)
    distance = np.linalg.norm(points - cells * pitch, axis=1)
    taken = {tuple(cells[number]): distance[number] for number in chosen}
    assert len(taken) == len(chosen)  # one of a cell
    for cell, far in zip(map(tuple, cells), distance, strict=True):
        assert taken[cell] <= far + 1e-9  # none is left out, and none was nearer
