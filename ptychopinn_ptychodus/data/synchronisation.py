"""One global phase for all patches.

The intensity of a single pattern does not determine the global phase of its patch; overlapping patches do,
relative to each other. Patches whose phases disagree cancel when they are averaged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

_NEIGHBOURS = 8  # enough to tie a scan together; the nearest overlap most
_LIT = 0.01  # pixels darker than this, relative to the brightest, say nothing about a phase
_SHIFT = 1e-6  # keeps the factorisation regular where the phases agree exactly


def synchronise_phases(
    patches: NDArray[Any], x: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None
) -> NDArray[np.complex64]:
    """Turn every patch by a constant phase so that overlapping patches agree.

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

    Returns
    -------
    ndarray
        (K, N, N) complex64, ``patches · exp(-iφ_k)``. One phase common to all of them stays
        undetermined, as ever in ptychography. Patches without any overlap keep their phase.
    """
    count, n = len(patches), patches.shape[-1]
    w = np.ones((n, n)) if weight is None else np.asarray(weight, dtype=np.float64)
    corners = np.floor(np.stack([np.ravel(y), np.ravel(x)], axis=-1) + 0.5).astype(np.int64)
    weighted = (patches * (w / w.max())).astype(np.complex64)
    pairs = _overlapping_pairs(corners, n)
    if len(pairs) == 0:
        return np.asarray(patches, dtype=np.complex64)
    overlaps = np.array([_overlap(weighted[j], weighted[k], corners[k] - corners[j]) for j, k in pairs])
    phases = _leading_phases(pairs, overlaps, count)
    return (patches * np.conj(phases)[:, None, None]).astype(np.complex64)


def synchronise_groups(
    patches: NDArray[Any], nn_indices: NDArray[np.int64], weight: ArrayLike
) -> NDArray[np.complex64]:
    """Turn every group of patches by a constant phase so that groups agree on the patterns that they share.

    As :func:`synchronise_phases`, with one phase a group and with ``h_ab = Σ_k Σ w O_a,k conj(w O_b,k)`` over
    the patterns k that groups a and b both hold: the same pixels twice, so that nothing is interpolated.

    Parameters
    ----------
    patches
        (B, C, N, N) complex.
    nn_indices
        (B, C) patterns of each group.
    weight
        (N, N) real illumination.

    Returns
    -------
    ndarray
        (B, C, N, N) complex64.
    """
    w = np.asarray(weight, dtype=np.float32)
    lit = np.flatnonzero(w > _LIT * w.max())
    scale = np.sqrt(w.ravel()[lit] / w.max())
    order = np.argsort(nn_indices, axis=None, kind="stable")
    starts = np.flatnonzero(np.diff(nn_indices.ravel()[order], prepend=-1))
    flat = patches.reshape(-1, w.size)
    pairs, overlaps = [], []
    for members in np.split(order, starts[1:]):
        groups = members // nn_indices.shape[1]
        views = flat[members][:, lit] * scale
        gram = views @ views.conj().T
        first, second = np.triu_indices(len(members), 1)
        pairs.append(np.stack([groups[first], groups[second]], axis=-1))
        overlaps.append(gram[first, second])
    joined = np.concatenate(pairs)
    if len(joined) == 0:
        return np.asarray(patches, dtype=np.complex64)
    phases = _leading_phases(joined, np.concatenate(overlaps).astype(np.complex128), len(patches))
    return (patches * np.conj(phases)[:, None, None, None]).astype(np.complex64)


def _overlapping_pairs(corners: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(E, 2) pairs j < k of near neighbours that share at least a quarter of a patch's edge each way."""
    near = min(_NEIGHBOURS, len(corners) - 1) + 1
    _, found = cKDTree(corners).query(corners, k=np.arange(1, near + 1))
    pairs = np.stack([np.repeat(np.arange(len(corners)), near), found.ravel()], axis=-1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    distance = np.abs(corners[pairs[:, 0]] - corners[pairs[:, 1]]).max(axis=1)
    chosen: NDArray[np.int64] = pairs[(pairs[:, 0] != pairs[:, 1]) & (distance <= 0.75 * n)]
    return chosen


def _overlap(first: NDArray[Any], second: NDArray[Any], offset: NDArray[np.int64]) -> complex:
    """``Σ first · conj(second)`` where ``second`` lies ``offset`` [rows, columns] further on."""
    n = len(first)
    parts = tuple(slice(max(d, 0), n + min(d, 0)) for d in offset.tolist())
    others = tuple(slice(max(-d, 0), n + min(-d, 0)) for d in offset.tolist())
    return complex(np.vdot(second[others], first[parts]))


def _leading_phases(
    pairs: NDArray[np.int64], overlaps: NDArray[np.complex128], count: int
) -> NDArray[np.complex128]:
    j, k = pairs.T
    rows, columns = np.concatenate([j, k]), np.concatenate([k, j])
    values = np.concatenate([overlaps, overlaps.conj()])
    degree = np.bincount(rows, np.abs(values), minlength=count)
    alone = degree == 0
    degree[alone] = 1.0
    values = values / np.sqrt(degree[rows] * degree[columns])
    # smallest eigenvector of 1 - H: found by factorising once, as the gap to the next one is narrow
    laplacian = sparse.identity(count, format="csc") - sparse.csc_matrix(
        (values, (rows, columns)), shape=(count, count)
    )
    if count < 8:
        vector = np.linalg.eigh(laplacian.toarray())[1][:, 0]
    else:
        start = np.ones(count, dtype=np.complex128)
        _, vectors = eigsh(laplacian, k=1, sigma=-_SHIFT, which="LM", v0=start)
        vector = vectors[:, 0]
    # the phase common to all is free: the one that turns the patches least leaves them as they came
    vector = vector * np.exp(-1j * np.angle(vector.sum()))
    size = np.abs(vector)
    free = alone | (size < 1e-12 * size.max())
    phases: NDArray[np.complex128] = np.where(free, 1.0, vector / np.where(free, 1.0, size))
    return phases
