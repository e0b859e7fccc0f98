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
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh, splu

from .overlapping import overlapping_pairs, relative, whole_corners, windows

logger = logging.getLogger(__name__)

_LIT = 0.01  # pixels darker than this, relative to the brightest, say nothing about a phase
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
    w = relative(np.ones((n, n)) if weight is None else weight)
    corners = whole_corners(np.ravel(x), np.ravel(y))
    pairs = overlapping_pairs(corners, w)
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
    w = relative(weight)
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
        corners = whole_corners(*coords[nn_indices.ravel()].T)
        # all groups of a pattern are in one part, so that any of its patches represents it
        _, first = np.unique(nn_indices, return_index=True)
        bridges = first[overlapping_pairs(corners[first], w)]
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


def _overlaps(
    patches: NDArray[Any], pairs: NDArray[np.int64], corners: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.complex128]:
    """``Σ w O_j conj(w O_k)`` of every pair; patches are weighted one at a time, without a copy of all."""
    overlaps = np.empty(len(pairs), dtype=np.complex128)
    current, first = -1, patches[0]
    for e, (j, k) in enumerate(pairs.tolist()):
        if j != current:
            current, first = j, patches[j] * weight
        inside, others = windows(corners[k] - corners[j], len(weight))
        overlaps[e] = np.vdot(patches[k][others], first[inside] * weight[others])
    return overlaps


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
    laplacian = _laplacian(pairs, overlaps, count)
    # the eigenvector of the smallest eigenvalue; the next one is near, so that the matrix is factorised
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


def _laplacian(pairs: NDArray[np.int64], overlaps: NDArray[np.complex128], count: int) -> sparse.csc_matrix:
    """1 - H with the normalised Hermitian matrix H, without what it is made of beside its factors."""
    j, k = pairs.T
    rows, columns = np.concatenate([j, k]), np.concatenate([k, j])
    values = np.concatenate([overlaps, overlaps.conj()])
    degree = np.bincount(rows, np.abs(values), minlength=count)
    values = values / np.sqrt(degree[rows] * degree[columns])
    normalised = sparse.csc_matrix((values, (rows, columns)), shape=(count, count))
    return sparse.csc_matrix(sparse.identity(count, format="csc") - normalised)


def _inverse(laplacian: sparse.csc_matrix) -> LinearOperator:
    """The inverse that :func:`eigsh` asks for, of a matrix that is Hermitian and positive definite.

    It makes one itself, which knows nothing of that, and takes nearly twice the memory.
    """
    shifted = sparse.csc_matrix(laplacian + _SHIFT * sparse.identity(laplacian.shape[0], format="csc"))
    factors = splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return LinearOperator(laplacian.shape, matvec=factors.solve, dtype=laplacian.dtype)
