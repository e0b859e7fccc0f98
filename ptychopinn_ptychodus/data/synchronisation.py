"""One global phase for all patches.

The intensity of a single pattern does not determine the global phase of its patch; overlapping patches do,
relative to each other. Patches whose phases disagree cancel when they are averaged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh, splu
from scipy.spatial import Delaunay, QhullError, cKDTree

logger = logging.getLogger(__name__)

_NEIGHBOURS = 8  # of each patch that it is compared with; the nearest overlap most, and 8 connect a scan
_LIT = 0.01  # pixels darker than this, relative to the brightest, say nothing about a phase
_SHARED = 1e-3  # least part of the light in an overlap: where two Gaussian beams have both fallen to 3 %
_FAINT = 1e-12  # of the largest overlap; less has no phase, as in the empty patches of a failed network
_SHIFT = 1e-6  # keeps the factorisation regular where the phases agree exactly
_DENSE = 16  # largest edge of a matrix whose eigenvectors are all computed
_MANY = 10_000  # edge of a matrix from which on what its factorisation takes of the memory counts

Overlaps = Callable[[Any, NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]], NDArray[np.complex128]]
"""A function that computes ``Σ w O_j conj(w O_k)`` on another device, over what pairs of patches share.

Positions are rounded to whole pixels. Its arguments are the patches (K, N, N), as that device has them, and
three arrays of numpy: pairs (E, 2) of numbers [j, k] of patches; corners (K, 2) [row, column] of the patches;
and w (N, N) float32. It returns (E,) complex128, of numpy.
"""


def synchronise_phases(
    patches: NDArray[Any],
    x: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None = None,
    overlaps: Overlaps | None = None,
) -> NDArray[np.complex64]:
    """Constant phase factor for every patch, with which overlapping patches agree.

    With ``h_jk = Σ w O_j conj(w O_k)`` over the overlap of patches j and k, the phases maximise
    ``Σ_jk Re(exp(-iφ_j) h_jk exp(iφ_k))``, relaxed to the leading eigenvector of the normalised Hermitian
    matrix (A. Singer, Appl. Comput. Harmon. Anal. 30, 20, 2011). Overlaps are taken at whole pixels.

    Parameters
    ----------
    patches
        (K, N, N) complex.
    x, y
        (K,) positions of the patches' centres, pixels.
    weight
        (N, N) real, as in :func:`.stitching.stitch`; None weighs all pixels equally.
    overlaps
        The function of another device, if ``patches`` are there; None stands for numpy.

    Returns
    -------
    ndarray
        (K,) complex64 of magnitude 1, ``exp(-iφ_k)``: the factors for :func:`.stitching.stitch`. One phase
        common to all patches stays undetermined, as ever in ptychography: it is chosen to turn them least.
        Where the patches fall into parts that do not overlap, each part has such a phase of its own, and a
        warning says so. A patch without any overlap keeps its phase.
    """
    n = patches.shape[-1]
    w = _relative(np.ones((n, n)) if weight is None else weight)
    corners = _corners(np.ravel(x), np.ravel(y))
    pairs = _overlapping_pairs(corners, w)
    return _phase_factors(pairs, (overlaps or _overlaps)(patches, pairs, corners, w), len(patches), "patches")


def synchronise_groups(
    patches: NDArray[Any],
    nn_indices: NDArray[np.int64],
    coords: NDArray[np.float64],
    weight: ArrayLike,
    overlaps: Overlaps | None = None,
) -> NDArray[np.complex64]:
    """Constant phase factor for every group of patches, with which groups agree on what they share.

    As :func:`synchronise_phases`, with one phase a group and with ``h_ab = Σ_k Σ w O_a,k conj(O_b,k)`` over
    the patterns k that are in both of the groups a and b. The two patches of a pattern have the same pixels,
    so that nothing is interpolated. Groups that no chain of shared patterns connects are connected by the
    overlaps of their patches.

    Parameters
    ----------
    patches
        (B, C, N, N) complex.
    nn_indices
        (B, C) patterns of each group.
    coords
        (M, 2) positions ``[x, y]`` of the patterns, pixels.
    weight
        (N, N) real illumination.
    overlaps
        As in :func:`synchronise_phases`.

    Returns
    -------
    ndarray
        (B,) complex64 of magnitude 1.
    """
    count, channels = nn_indices.shape
    w = _relative(weight)
    flat = patches.reshape(-1, *w.shape)
    if overlaps is None:
        pairs, found = _shared_patterns(flat, nn_indices, w)
    else:
        members = np.concatenate([_pairs_of(members) for members in _holders(nn_indices)])
        pairs = members // channels
        lit = np.sqrt(np.where(w > _LIT, w, np.float32(0)))
        found = overlaps(flat, members, np.zeros((nn_indices.size, 2), np.int64), lit)
    parts, part = _components(pairs, count)
    if parts > 1:
        corners = _corners(*coords[nn_indices.ravel()].T)
        # all groups of a pattern are in one part, so that any of its patches represents it
        _, first = np.unique(nn_indices, return_index=True)
        bridges = first[_overlapping_pairs(corners[first], w)]
        bridges = bridges[np.not_equal(*part[bridges.T // channels])]
        found = np.concatenate([found, (overlaps or _overlaps)(flat, bridges, corners, w)])
        pairs = np.concatenate([pairs, bridges // channels])
    return _phase_factors(pairs, found, count, "groups")


def _holders(nn_indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """For each pattern, the numbers of its patches among all."""
    order = np.argsort(nn_indices, axis=None, kind="stable")
    starts = np.flatnonzero(np.diff(nn_indices.ravel()[order], prepend=-1))
    return np.split(order, starts[1:])


def _pairs_of(members: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m (m - 1) / 2, 2): every pair of the (m,) members."""
    return np.stack([members[side] for side in np.triu_indices(len(members), 1)], axis=-1)


def _relative(weight: ArrayLike) -> NDArray[np.float32]:
    w = np.asarray(weight, dtype=np.float64)
    relative: NDArray[np.float32] = (w / w.max()).astype(np.float32)
    return relative


def _corners(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """(K, 2) positions [row, column] to whole pixels."""
    return np.floor(np.stack([y, x], axis=-1) + 0.5).astype(np.int64)


def _overlapping_pairs(corners: NDArray[np.int64], weight: NDArray[np.float32]) -> NDArray[np.int64]:
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
    pairs = np.concatenate([nearest, first[_triangulation(points)]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    offset = corners[pairs[:, 0]] - corners[pairs[:, 1]]
    near_enough = (pairs[:, 0] != pairs[:, 1]) & (np.abs(offset).max(axis=1) <= 0.75 * n)
    pairs, offset = pairs[near_enough], offset[near_enough]
    light = weight.astype(np.float64)
    shared = signal.fftconvolve(light, light[::-1, ::-1])
    chosen: NDArray[np.int64] = pairs[shared[tuple((offset + n - 1).T)] > _SHARED * shared[n - 1, n - 1]]
    return chosen


def _triangulation(points: NDArray[np.int64]) -> NDArray[np.int64]:
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


def _overlaps(
    patches: NDArray[Any], pairs: NDArray[np.int64], corners: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.complex128]:
    """``Σ w O_j conj(w O_k)`` of every pair; patches are weighted one at a time, without a copy of all."""
    overlaps = np.empty(len(pairs), dtype=np.complex128)
    current, first = -1, patches[0]
    for e, (j, k) in enumerate(pairs.tolist()):
        if j != current:
            current, first = j, patches[j] * weight
        inside, others = _windows(corners[k] - corners[j], len(weight))
        overlaps[e] = np.vdot(patches[k][others], first[inside] * weight[others])
    return overlaps


def _windows(offset: NDArray[np.int64], n: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The slices of two patches where they overlap; the second lies ``offset`` [rows, columns] further on."""
    row, column = offset.tolist()
    inside = (slice(max(row, 0), n + min(row, 0)), slice(max(column, 0), n + min(column, 0)))
    others = (slice(max(-row, 0), n + min(-row, 0)), slice(max(-column, 0), n + min(-column, 0)))
    return inside, others


def _shared_patterns(
    flat: NDArray[Any], nn_indices: NDArray[np.int64], weight: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
    """(E, 2) pairs of groups that hold the same pattern, and the overlap of its patches; for each pattern."""
    lit = np.flatnonzero(weight > _LIT)
    scale = np.sqrt(weight.ravel()[lit])
    pixels = flat.reshape(-1, weight.size)
    pairs, overlaps = [], []
    for members in _holders(nn_indices):
        views = pixels[members][:, lit] * scale
        gram = views @ views.conj().T
        first, second = np.triu_indices(len(members), 1)
        groups = members // nn_indices.shape[1]
        pairs.append(np.stack([groups[first], groups[second]], axis=-1))
        overlaps.append(gram[first, second])
    return np.concatenate(pairs), np.concatenate(overlaps).astype(np.complex128)


def _components(pairs: NDArray[np.int64], count: int) -> tuple[int, NDArray[np.int32]]:
    """Number of connected parts, and the part of each of ``count`` nodes."""
    edges = sparse.coo_matrix((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(count, count))
    parts, part = connected_components(edges, directed=False)
    return parts, part


def _phase_factors(
    pairs: NDArray[np.int64], overlaps: NDArray[np.complex128], count: int, what: str
) -> NDArray[np.complex64]:
    if not np.isfinite(overlaps).all():
        raise ValueError(
            "patches hold NaN or infinite values: the model's output cannot be stitched. Train it again, or "
            "choose another model."
        )
    # pairs with next to no light in their overlap have no phase that could connect parts
    size = np.abs(overlaps)
    shared = size > _FAINT * size.max(initial=0.0)
    pairs, overlaps = pairs[shared], overlaps[shared]
    factors = np.ones(count, dtype=np.complex64)
    if len(pairs) == 0:
        return factors
    parts, part = _components(pairs, count)
    nodes = np.argsort(part, kind="stable")
    sizes = np.bincount(part)
    starts = np.cumsum(sizes) - sizes
    within = np.empty(count, dtype=np.int64)
    within[nodes] = np.arange(count) - np.repeat(starts, sizes)
    edges = np.argsort(part[pairs[:, 0]], kind="stable")
    edge_ends = np.cumsum(np.bincount(part[pairs[:, 0]], minlength=parts))
    for members, own in zip(np.split(nodes, starts[1:]), np.split(edges, edge_ends[:-1]), strict=True):
        if len(members) > 1:
            factors[members] = _leading_phases(within[pairs[own]], overlaps[own], len(members)).conj()
    several = np.count_nonzero(sizes > 1)
    if several > 1:
        logger.warning(
            "The %s fall into %d parts that do not overlap: the phase of each part relative to the others "
            "is undetermined.",
            what,
            several,
        )
    return factors


def _leading_phases(
    pairs: NDArray[np.int64], overlaps: NDArray[np.complex128], count: int
) -> NDArray[np.complex128]:
    """``exp(iφ)`` of nodes that are all connected."""
    j, k = pairs.T
    rows, columns = np.concatenate([j, k]), np.concatenate([k, j])
    values = np.concatenate([overlaps, overlaps.conj()])
    degree = np.bincount(rows, np.abs(values), minlength=count)
    values = values / np.sqrt(degree[rows] * degree[columns])
    # the eigenvector of 1 - H of the smallest eigenvalue; the next one is near, so that 1 - H is factorised
    laplacian = sparse.identity(count, format="csc") - sparse.csc_matrix(
        (values, (rows, columns)), shape=(count, count)
    )
    if count <= _DENSE:
        vector = np.linalg.eigh(laplacian.toarray())[1][:, 0]
    else:
        start = np.ones(count, dtype=np.complex128)
        inverse = _inverse(laplacian) if count > _MANY else None
        _, vectors = eigsh(laplacian, k=1, sigma=-_SHIFT, which="LM", v0=start, OPinv=inverse)
        vector = vectors[:, 0]
    size = np.abs(vector)
    free = size < 1e-12 * size.max()
    phases: NDArray[np.complex128] = np.where(free, 0.0, vector / np.where(free, 1.0, size))
    # the phase common to all is free: the patches are turned as little as possible
    phases *= np.exp(-1j * np.angle(phases.sum()))
    phases[free] = 1.0
    return phases


def _inverse(laplacian: sparse.csc_matrix) -> LinearOperator:
    """The inverse that :func:`eigsh` asks for, of a matrix that is Hermitian and positive definite.

    It makes one itself, which knows nothing of that, and takes nearly twice the memory.
    """
    shifted = sparse.csc_matrix(laplacian + _SHIFT * sparse.identity(laplacian.shape[0], format="csc"))
    factors = splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return LinearOperator(laplacian.shape, matvec=factors.solve, dtype=laplacian.dtype)
