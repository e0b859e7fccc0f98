"""Twins: patches that give the same patterns, turned by half and conjugated, where the probe is its own twin.

The pattern of a patch O under the probe P is that of conj(O(-r)) under conj(P(-r)). Where the latter is P but
for a phase, as an even disk without phase or any probe that is real and symmetric, a pattern cannot tell O
from its twin. Overlap can: twins of patches that agree do not agree with each other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.linalg import eigsh

from . import large_arrays
from .overlapping import overlapping_pairs, relative, whole_corners, windows

logger = logging.getLogger(__name__)

ALIKE = 0.98
"""Likeness of a probe and its twin from which on no pattern is taken to tell patches from theirs."""

_SWEEPS = 50  # at most, of choosing anew patch by patch: each makes the sum of differences smaller
_TOLERANCE = 1e-4  # of the eigenvalue: the signs are gone through afterwards
_FEW = 16  # largest edge of a matrix whose eigenvectors are all computed


@dataclass(frozen=True)
class Twin:
    """How a probe is its own twin.

    Attributes
    ----------
    middle
        [row, column]: pixel p of a patch is pixel ``middle - p`` of its twin, modulo N. That is N - 1 where
        the probe is in the middle of its array.
    likeness
        Of the probe and its twin, 0 to 1: the modulus of their correlation; of several modes, the root of
        that of their mutual intensities.
    """

    middle: tuple[int, int]
    likeness: float

    @property
    def is_open(self) -> bool:
        """Whether a pattern leaves open which of patch and twin it is of."""
        return self.likeness >= ALIKE

    def of(self, patches: NDArray[Any]) -> NDArray[Any]:
        """The twins of (…, N, N) patches."""
        rows, columns = ((whole - np.arange(patches.shape[-1])) % patches.shape[-1] for whole in self.middle)
        turned: NDArray[Any] = patches[..., rows[:, None], columns].conj()
        return turned


def twin_of_probe(probe: ArrayLike) -> Twin:
    """How, and how far, a probe is its own twin, about whichever place it is so most.

    Parameters
    ----------
    probe
        (modes, N, N) or (N, N) complex.

    Examples
    --------
    >>> disk = np.hypot(*np.mgrid[-3.5:4, -3.5:4]) < 3
    >>> twin_of_probe(disk)
    Twin(middle=(7, 7), likeness=1.0)
    """
    modes = np.asarray(probe, np.complex128)
    modes = modes.reshape(-1, *modes.shape[-2:])
    spectra = np.fft.fft2(modes)
    # Σ_p P_m(p) P_n(middle - p), for every middle at once: the correlation with the twin
    overlaps = np.fft.ifft2(spectra[:, None] * spectra[None])
    alike = (overlaps.real**2 + overlaps.imag**2).sum((0, 1))
    flat = modes.reshape(len(modes), -1)
    whole = float((np.abs(flat.conj() @ flat.T) ** 2).sum())
    row, column = np.unravel_index(int(alike.argmax()), alike.shape)
    likeness = float(np.sqrt(alike[row, column] / whole)) if whole > 0 else 0.0
    return Twin((int(row), int(column)), round(min(likeness, 1.0), 6))


def choose_twins(
    patches: NDArray[Any], x: NDArray[np.float64], y: NDArray[np.float64], weight: ArrayLike, twin: Twin
) -> NDArray[Any]:
    """The patches, those replaced by their twins which then agree better with the patches around them.

    What is made as small as possible is the sum of ``Σ w |O_j − e^{iφ} O_k|²`` over what pairs of neighbours
    share, at whole pixels, with the best φ of each pair. Of one pair it is the sum of a constant, of a term
    for each patch, and of one for both together; so that it is a synchronisation of signs, ±1 for as it is or
    turned, in which one more node, whose sign is known, stands for the terms of single patches. It is relaxed
    to the leading eigenvector, and then made smaller patch by patch.

    Parameters
    ----------
    patches
        (K, N, N) complex; may be memory-mapped.
    x, y
        (K,) positions of the patches' centres, pixels.
    weight
        (N, N) real, as in :func:`.stitching.stitch`.
    twin
        Of the probe.

    Returns
    -------
    ndarray
        (K, N, N): ``patches`` themselves where none is replaced. A patch that overlaps with none stays as it
        is, and a warning says how many there are.
    """
    count = len(patches)
    w = relative(weight)
    corners = whole_corners(x, y)
    pairs = overlapping_pairs(corners, w)
    alone = count - len(np.unique(pairs))
    if alone:
        logger.warning(
            "The probe is its own image, turned by half and conjugated (likeness %.3f), so that a pattern "
            "does not tell a patch from its image of that kind. %d of %d patches do not overlap with any "
            "other: which of the two each of them is cannot be known.",
            twin.likeness,
            alone,
            count,
        )
    if len(pairs) == 0:
        return patches
    differences = _differences(patches, pairs, corners, w, twin)
    # of patches that are zero there is nothing to choose, and of those that are not finite stitching tells
    if not (np.isfinite(differences).all() and differences.any()):
        return patches
    turned = _signs(pairs, differences, count) < 0
    logger.info(
        "The probe is its own image, turned by half and conjugated (likeness %.3f): by what they share with "
        "their neighbours, %d of %d patches are replaced by their images of that kind.",
        twin.likeness,
        np.count_nonzero(turned),
        count,
    )
    if not turned.any():
        return patches
    chosen = large_arrays.empty(patches.shape, patches.dtype, "The patches, turned where they have to be")
    for part in large_arrays.blocks(patches):
        block = np.array(patches[part])
        block[turned[part]] = twin.of(block[turned[part]])
        chosen[part] = block
    return chosen


def _differences(
    patches: NDArray[Any],
    pairs: NDArray[np.int64],
    corners: NDArray[np.int64],
    weight: NDArray[np.float32],
    twin: Twin,
) -> NDArray[np.float64]:
    """(E, 2, 2) how far the patches of each pair differ where they overlap, each as it is or turned."""
    found = np.empty((len(pairs), 2, 2))
    current, first = -1, np.empty(0)
    for e, (j, k) in enumerate(pairs.tolist()):
        if j != current:
            current, first = j, _with_twin(patches[j], twin)
        inside, others = windows(corners[k] - corners[j], len(weight))
        root = np.sqrt(weight[inside] * weight[others]).ravel()
        one = first[:, *inside].reshape(2, -1) * root
        other = _with_twin(patches[k], twin)[:, *others].reshape(2, -1) * root
        energies = (np.vdot(a, a).real for pair in (one, other) for a in pair)
        a, a_turned, b, b_turned = energies
        found[e] = np.add.outer((a, a_turned), (b, b_turned)) - 2 * np.abs(one @ other.conj().T)
    return found


def _with_twin(patch: NDArray[Any], twin: Twin) -> NDArray[Any]:
    return np.stack((patch, twin.of(patch)))


def _signs(pairs: NDArray[np.int64], differences: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(K,) 1 for patches as they are, -1 for those to be turned, with the least sum of differences."""
    j, k = pairs.T
    (both, second), (first, none) = differences[:, 0].T, differences[:, 1].T
    # a difference is constant + own_j s_j + own_k s_k + shared s_j s_k
    shared = (both + none - second - first) / 4
    own = np.zeros(count)
    own += np.bincount(j, (both + second - first - none) / 4, minlength=count)
    own += np.bincount(k, (both + first - second - none) / 4, minlength=count)
    rows, columns = np.concatenate([j, k]), np.concatenate([k, j])
    between = sparse.csr_matrix((np.tile(-shared, 2), (rows, columns)), shape=(count, count))
    known = sparse.csr_matrix(-own)
    whole = sparse.bmat([[between, known.T], [known, None]], format="csr")
    vector = _leading(whole)
    signs = np.where(vector[:-1] * vector[-1] < 0, -1.0, 1.0)
    return _improved(signs, between, -own)


def _leading(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    """The eigenvector of the largest eigenvalue of a real symmetric matrix, its nodes of like degree."""
    degree = np.asarray(abs(matrix).sum(1)).ravel()
    scale = sparse.diags(1 / np.sqrt(np.where(degree > 0, degree, 1.0)))
    normalised = scale @ matrix @ scale
    if matrix.shape[0] <= _FEW:
        return np.asarray(np.linalg.eigh(normalised.toarray())[1][:, -1])
    _, vectors = eigsh(normalised, k=1, which="LA", v0=np.ones(matrix.shape[0]), tol=_TOLERANCE)
    return np.asarray(vectors[:, 0])


def _improved(
    signs: NDArray[np.float64], between: sparse.csr_matrix, own: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Signs of a sum that is as large as changes of single ones make it."""
    signs = signs.copy()
    for _ in range(_SWEEPS):
        changed = False
        for node in range(len(signs)):
            row = slice(between.indptr[node], between.indptr[node + 1])
            pull = own[node] + float(between.data[row] @ signs[between.indices[row]])
            if pull * signs[node] < 0:
                signs[node] = -signs[node]
                changed = True
        if not changed:
            break
    return signs
