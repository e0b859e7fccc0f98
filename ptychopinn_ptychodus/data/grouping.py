"""Which patterns the network sees together, and which groups stand for all: decided from positions alone.

A scan is grouped by :meth:`.RawData.generate_grouped_data`; :func:`group_neighbours` is what that draws with.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

logger = logging.getLogger(__name__)

_NAMED = 3
"""Patterns that a message names at most."""

_Z_ORDER_BITS = 12
"""Bits of each coordinate along the Z-order curve: cells of 1/4096 of the scan's extent."""


def nearest_to_grid(points: ArrayLike, pitch: float) -> NDArray[np.int64]:
    """Evenly spread ones among points: the one nearest to the middle of each cell of a square grid.

    Parameters
    ----------
    points
        (B, 2), any unit.
    pitch
        Edge of a cell, in the same unit, positive.

    Returns
    -------
    ndarray
        (b,) numbers of points, ascending.
    """
    places = np.asarray(points, dtype=np.float64) / pitch
    cells = np.round(places)
    order = np.argsort(np.hypot(*(places - cells).T), kind="stable")
    _, first = np.unique(cells[order], axis=0, return_index=True)
    return np.sort(order[first])


def neighbourhood_order(positions: ArrayLike) -> NDArray[np.int64]:
    """Indices of (M, 2) positions along a Z-order curve: what is near in it is near in the scan."""
    points = np.asarray(positions, dtype=np.float64)
    extent = np.maximum(np.ptp(points, axis=0).max(), 1e-9)
    cells = ((points - points.min(axis=0)) / extent * (2**_Z_ORDER_BITS - 1)).astype(np.int64)
    key = np.zeros(len(points), np.int64)
    for bit in range(_Z_ORDER_BITS):
        key |= ((cells[:, 0] >> bit) & 1) << (2 * bit) | ((cells[:, 1] >> bit) & 1) << (2 * bit + 1)
    return np.argsort(key, kind="stable")


def _draw_anchors(
    count: int, n_groups: int | None, rng: np.random.Generator, sequential: bool
) -> NDArray[np.int64]:
    if n_groups is None:
        return np.arange(count)
    rounds, rest = divmod(n_groups, count)
    remainder = np.arange(rest) if sequential else rng.permutation(count)[:rest]
    return np.concatenate([np.tile(np.arange(count), rounds), remainder])


def _nearest_others(
    coords: NDArray[np.float64], anchors: NDArray[np.int64], neighbor_count: int
) -> NDArray[np.int64]:
    """(B, neighbor_count) nearest patterns of each anchor, itself left out."""
    tree = cKDTree(coords)
    # every position is looked up once, however often it is an anchor
    unique, inverse = np.unique(anchors, return_inverse=True)
    _, near = tree.query(coords[unique], k=neighbor_count + 1)
    is_self = near == unique[:, None]
    # where more patterns than were asked for share one position, the anchor may not be among the answers
    is_self[~is_self.any(axis=1), -1] = True
    others: NDArray[np.int64] = near[~is_self].reshape(len(unique), neighbor_count)[inverse]
    return others


def _nearest_of_scan(
    coords: NDArray[np.float64], scan: NDArray[np.int64], anchors: NDArray[np.int64], neighbor_count: int
) -> NDArray[np.int64]:
    """As :func:`_nearest_others` within each anchor's own scan; -1 where that has no more patterns."""
    numbers, sizes = np.unique(scan, return_counts=True)
    near = np.full((len(anchors), min(neighbor_count, sizes.max() - 1)), -1)
    for number, size in zip(numbers, sizes, strict=True):
        members = np.flatnonzero(scan == number)
        own = scan[anchors] == number
        if own.any():
            places = np.searchsorted(members, anchors[own])
            others = _nearest_others(coords[members], places, min(neighbor_count, size - 1))
            near[own, : others.shape[1]] = members[others]
    return near


def group_neighbours(
    coords: ArrayLike,
    gridsize: int,
    neighbor_count: int,
    n_groups: int | None,
    *,
    seed: int | None,
    sequential: bool = False,
    scan_index: ArrayLike | None = None,
    members: ArrayLike | None = None,
    patch_size: int | None = None,
) -> NDArray[np.int64]:
    """Draw groups of neighbouring patterns.

    Each group is an anchor (channel 0) and ``gridsize² - 1`` of its ``neighbor_count`` nearest neighbours,
    drawn without replacement. All are of one scan. Given ``patch_size``, an anchor gets its nearest ones
    instead where a draw has a pattern so far from the group's centre that its patch does not reach there, as
    at the corners of a scan.

    Parameters
    ----------
    coords
        (M, 2) positions [x, y]; pixels of the object if ``patch_size`` is given, else any unit.
    gridsize
        A group has gridsize² patterns; 1 needs no neighbours.
    neighbor_count
        Size of the neighbourhood to draw from, or as many as the scan has.
    n_groups
        None: every position is an anchor once, in order. At most M: that many distinct anchors. More:
        every position ``n_groups // M`` times and a remainder of distinct ones, each with its own draw.
    seed
        Seed of the draw; None draws differently every time, unless ``sequential``.
    sequential
        Take the first positions in order as anchors instead of random ones; the draw of their neighbours
        can then be repeated even without a seed.
    scan_index
        (M,) number of the scan that each position belongs to; None if they are of one scan.
    members
        (m,) numbers of the positions that groups are made of, ascending: the others are in no group, and
        "every position" is every one of these. None stands for all.
    patch_size
        N, the edge of a patch in pixels. None lets groups reach as far as they happen to.

    Returns
    -------
    ndarray
        (B, gridsize²) int64, rows of ``coords``.

    Raises
    ------
    ValueError
        If a scan has fewer than gridsize² positions, or ``neighbor_count`` < gridsize² - 1, or a number is
        not positive; or if even nearest neighbours are so far from each other that their patches, of
        ``patch_size``, do not reach the centre of their group.
    """
    everywhere = np.asarray(coords, dtype=np.float64)
    chosen = np.arange(len(everywhere)) if members is None else np.asarray(members, dtype=np.int64)
    positions = everywhere[chosen]
    scan = np.zeros(len(chosen), np.int64) if scan_index is None else np.asarray(scan_index, np.int64)[chosen]
    drawn = _draw(positions, scan, gridsize, neighbor_count, n_groups, seed, sequential)
    if patch_size is None:
        return chosen[drawn]
    torn = np.flatnonzero(_reach(positions[drawn]).max(axis=1) > patch_size / 2)
    if torn.size:
        nearest = _draw(positions, scan, gridsize, gridsize**2 - 1, None, 0, False)
        drawn[torn] = nearest[drawn[torn, 0]]
        logger.info(
            "%d of %d groups are an anchor and its nearest neighbours: those drawn reached further than N/2.",
            len(torn),
            len(drawn),
        )
    groups = chosen[drawn]
    _require_together(_reach(everywhere[groups]), groups, everywhere, patch_size)
    return groups


def _draw(
    positions: NDArray[np.float64],
    scan: NDArray[np.int64],
    gridsize: int,
    neighbor_count: int,
    n_groups: int | None,
    seed: int | None,
    sequential: bool,
) -> NDArray[np.int64]:
    """(B, gridsize²) groups of all (M, 2) ``positions``, however far they reach."""
    count, channels = len(positions), gridsize**2
    if gridsize < 1:
        raise ValueError(f"gridsize = {gridsize} is not valid: use an integer >= 1.")
    if n_groups is not None and n_groups < 1:
        raise ValueError(f"n_groups = {n_groups} is not valid: use an integer >= 1, or None for all.")
    numbers, sizes = np.unique(scan, return_counts=True)
    if sizes.min(initial=count) < channels:
        which = f"scan with scan_index {numbers[sizes.argmin()]}" if len(numbers) > 1 else "scan"
        raise ValueError(
            f"gridsize = {gridsize} groups {channels} patterns, but the {which} has "
            f"{sizes.min(initial=count)}: use a smaller gridsize or more patterns"
            + (", or leave that scan out." if len(numbers) > 1 else ".")
        )
    if neighbor_count < channels - 1:
        raise ValueError(
            f"neighbor_count = {neighbor_count} is too small for gridsize = {gridsize}, which draws "
            f"{channels - 1} neighbours: use neighbor_count >= {channels - 1}."
        )
    rng = np.random.default_rng(0 if seed is None and sequential else seed)
    anchors = _draw_anchors(count, n_groups, rng, sequential)
    if gridsize == 1:
        return anchors[:, None]
    near = _nearest_of_scan(positions, scan, anchors, neighbor_count)
    # the smallest of independent random keys are a uniform draw without replacement
    keys = rng.random(near.shape, dtype=np.float32)
    keys[near < 0] = np.inf
    drawn = np.argsort(keys, axis=1)[:, : channels - 1]
    return np.concatenate([anchors[:, None], np.take_along_axis(near, drawn, axis=1)], axis=1)


def _reach(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, C) how far each of the (B, C, 2) positions is from its group's centre, along the further axis."""
    return np.asarray(np.abs(members - members.mean(axis=1, keepdims=True)).max(axis=2))


def _require_together(
    distance: NDArray[np.float64], indices: NDArray[np.int64], coords: NDArray[np.float64], n: int
) -> None:
    """Refuse groups that are torn apart: the region that they span takes memory without end."""
    torn = np.flatnonzero(distance.max(axis=1) > n / 2)
    if torn.size == 0:
        return
    # the furthest from a group's centre is the stray one, wherever it drew the centre to
    torn = torn[np.argsort(-distance[torn].max(axis=1), kind="stable")]
    _, first = np.unique(indices[torn, distance[torn].argmax(axis=1)], return_index=True)
    worst = [(b, int(distance[b].argmax())) for b in torn[np.sort(first)[:_NAMED]]]
    named = "; ".join(
        "pattern {} at x = {:g}, y = {:g} ({:.0f} px)".format(
            indices[b, c], *coords[indices[b, c]], distance[b, c]
        )
        for b, c in worst
    )
    raise ValueError(
        f"{torn.size} of {len(indices)} groups reach further than N/2 = {n // 2} pixels from their centre, "
        f"where their patches no longer overlap. The furthest: {named}. Check these positions and the unit "
        "of all of them (pixels of the object); or use a smaller gridsize, a smaller neighbor_count or more "
        "patterns."
    )
