"""Which patches overlap, where and how much: at whole pixels, for what neighbours decide."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import Delaunay, QhullError, cKDTree

from .interpolation import convolved

_NEIGHBOURS = 8  # of each patch that it is compared with; the nearest overlap most, and 8 connect a scan
_AROUND = 24  # of each pattern that its light is compared with: two rings of a grid
_SOME = 64  # patterns: enough for a median
_SHARED = 1e-3  # least part of the light in an overlap: where two Gaussian beams have both fallen to 3 %


LEAST_SHARED = 0.5
"""Part of the light of a pattern that has to fall where others have put light, too: see :func:`shared_light`.

Where it is less, overlap does not determine the object, and an object explains whatever a pattern has.
"""


def relative(weight: ArrayLike) -> NDArray[np.float32]:
    """(N, N) the weight of the pixels of a patch, over its maximum."""
    w = np.asarray(weight, dtype=np.float64)
    scaled: NDArray[np.float32] = (w / w.max()).astype(np.float32)
    return scaled


def whole_corners(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """(K, 2) positions [row, column] to whole pixels."""
    return np.floor(np.stack([y, x], axis=-1) + 0.5).astype(np.int64)


def overlapping_pairs(corners: NDArray[np.int64], weight: NDArray[np.float32]) -> NDArray[np.int64]:
    """(E, 2) pairs j < k of neighbours that share light, and a quarter of a patch's edge each way.

    The nearest neighbours of each patch are not enough: along a row of a fly scan they are all in that row,
    and in a burst at one point they are all at that point. The triangulation of the points therefore adds
    pairs, and connects whatever overlaps. (All patches at one point find the same neighbours.)
    """
    n, count = len(weight), len(corners)
    points, first = np.unique(corners, axis=0, return_index=True)
    near = min(_NEIGHBOURS, count - 1) + 1
    _, found = cKDTree(corners).query(corners, k=np.arange(1, near + 1))
    nearest = np.stack([np.repeat(np.arange(count), near), found.ravel()], axis=-1)
    pairs = np.concatenate([nearest, first[triangulation(points)]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    offset = corners[pairs[:, 0]] - corners[pairs[:, 1]]
    near_enough = (pairs[:, 0] != pairs[:, 1]) & (np.abs(offset).max(axis=1) <= 0.75 * n)
    pairs, offset = pairs[near_enough], offset[near_enough]
    light = weight.astype(np.float64)
    shared = convolved(light, light[::-1, ::-1])
    chosen: NDArray[np.int64] = pairs[shared[tuple((offset + n - 1).T)] > _SHARED * shared[n - 1, n - 1]]
    return chosen


def triangulation(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """(E, 2) edges between neighbouring points, all of which are different."""
    try:
        mesh = Delaunay(points)
    except QhullError:  # too few points, or all on one line: each is paired with the next
        centred = points - points.mean(axis=0)
        line = np.argsort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
        return np.stack([line[:-1], line[1:]], axis=-1)
    starts, others = mesh.vertex_neighbor_vertices
    edges = np.stack([np.repeat(np.arange(len(points)), np.diff(starts)), others], axis=-1)
    # points that rounding kept out of the triangulation are paired with its nearest corner
    return np.concatenate([edges, mesh.coplanar[:, [0, 2]]]).astype(np.int64)


def windows(offset: NDArray[np.int64], n: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The slices of two patches where they overlap; the second lies ``offset`` [rows, columns] further on."""
    row, column = offset.tolist()
    inside = (slice(max(row, 0), n + min(row, 0)), slice(max(column, 0), n + min(column, 0)))
    others = (slice(max(-row, 0), n + min(-row, 0)), slice(max(-column, 0), n + min(-column, 0)))
    return inside, others


def shared_light(probe: ArrayLike, x: ArrayLike, y: ArrayLike) -> float:
    """Part of the light of a pattern that falls where other patterns have put light as well, 0 to 1.

    ``Σ min(I, Σ_k I_k) / Σ I`` of the light I of a pattern and that of its neighbours, at whole pixels; the
    median over some patterns. Patterns at one place are one, since they see the object alike.

    Parameters
    ----------
    probe
        (modes, N, N) complex.
    x, y
        (M,) positions, pixels.

    Examples
    --------
    >>> flat = np.ones((1, 8, 8))
    >>> shared_light(flat, [0, 4, 8, 12], [0, 0, 0, 0]), shared_light(flat, [0, 8], [0, 0])
    (0.75, 0.0)
    """
    light = (np.abs(np.asarray(probe)) ** 2).sum(0)
    n, whole = len(light), float(light.sum())
    corners = np.unique(whole_corners(np.ravel(x), np.ravel(y)), axis=0)
    near = min(_AROUND, len(corners) - 1) + 1
    some = np.unique(np.linspace(0, len(corners) - 1, _SOME).astype(np.int64))
    _, found = cKDTree(corners).query(corners[some], k=np.arange(1, near + 1))
    parts = []
    for own, neighbours in zip(some.tolist(), found.tolist(), strict=True):
        others = np.zeros_like(light)
        for offset in (corners[k] - corners[own] for k in neighbours if k != own):
            if np.abs(offset).max() < n:
                inside, beyond = windows(offset, n)
                others[inside] += light[beyond]
        parts.append(float(np.minimum(light, others).sum()) / whole)
    return float(np.median(parts))
