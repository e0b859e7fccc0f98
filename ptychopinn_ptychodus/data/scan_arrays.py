"""The arrays that a :class:`~.raw.RawData` is made of: each is checked, and brought to its type and shape.

Every function raises ``ValueError`` that names the array, what is wrong with it and what to do.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..pattern_sizes import IN_WORDS, SIZES, sizes_beside
from .detector import require_finite
from .large_arrays import as_array

logger = logging.getLogger(__name__)


def _numeric(values: ArrayLike, name: str, kinds: str) -> NDArray[Any]:
    """``values`` as an array of one of numpy's ``kinds`` of numbers."""
    array = as_array(values)
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name} has the type {array.dtype}: give an array of numbers.")
    return array


def checked_positions(values: ArrayLike, name: str, count: int | None = None) -> NDArray[np.float64]:
    """Coordinates along one axis, (M,) float64, finite; M has to be ``count``, unless that is None."""
    array = _numeric(values, name, "iuf").astype(np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has the shape {array.shape}: give one position per pattern, (M,).")
    if count is not None and len(array) != count:
        raise ValueError(f"{name} has {len(array)} entries but xcoords has {count}: give one per pattern.")
    require_finite(array, name)
    return array


def checked_scan_index(values: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """The scan that each of ``count`` patterns belongs to, (count,) int64; zeros for None.

    Numbers that are all different are those of scan points, and are read as one scan with a warning.
    """
    if values is None:
        return np.zeros(count, dtype=np.int64)
    given = _numeric(values, "scan_index", "iuf")
    require_finite(given, "scan_index")
    if not np.array_equal(given, np.rint(given)):
        raise ValueError("scan_index holds fractions: give the number of the scan that each pattern is of.")
    array = given.astype(np.int64)
    if array.shape != (count,):
        raise ValueError(f"scan_index has the shape {array.shape}: give one per pattern, ({count},).")
    if count > 1 and len(np.unique(array)) == count:
        logger.warning(
            "scan_index gives each of the %d patterns a number of its own: these are read as numbers of "
            "scan points, and all patterns as one scan.",
            count,
        )
        return np.zeros(count, dtype=np.int64)
    return array


def checked_exposures(values: ArrayLike | None, scan_index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Light on the sample for each pattern, (M,) float64 > 0, of mean 1 over each scan; ones for None."""
    count = len(scan_index)
    if values is None:
        return np.ones(count)
    array = _numeric(values, "exposures", "iuf").astype(np.float64)
    if array.shape != (count,):
        raise ValueError(f"exposures has the shape {array.shape}: give one per pattern, ({count},).")
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(
            "exposures holds values that are not positive and finite: give the light that fell on the sample "
            "for each pattern, or leave exposures out."
        )
    for number in np.unique(scan_index):
        array[scan_index == number] /= array[scan_index == number].mean()
    return array


def checked_patterns(values: ArrayLike, count: int) -> NDArray[Any]:
    """``count`` square patterns of a supported size, (count, N, N), of the type that they came in.

    The axes (N, N, count) of older files are put in this order.
    """
    array = _numeric(values, "diff3d", "iuf")
    if array.ndim != 3:
        raise ValueError(f"diff3d has the shape {array.shape}: give patterns as (M, N, N).")
    # older files hold (N, N, M); where all three are equal that cannot be told, and (M, N, N) is the schema
    if array.shape[0] == array.shape[1] != array.shape[2] == count:
        array = np.moveaxis(array, 2, 0)
    if array.shape[1] != array.shape[2]:
        raise ValueError(f"diff3d has the shape {array.shape}: patterns must be square; crop or pad them.")
    if len(array) != count:
        raise ValueError(f"diff3d has {len(array)} patterns but xcoords has {count} positions: match them.")
    if array.shape[-1] not in SIZES:
        nearest = " or ".join(map(str, sizes_beside(array.shape[-1])))
        raise ValueError(
            f"diff3d has patterns of N = {array.shape[-1]}: crop or pad them to N = {nearest}, or bin them; "
            f"N is {IN_WORDS}."
        )
    return array


def checked_bad_pixels(values: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    """The mask of bad pixels, (n, n) bool, with some good ones left; none are bad for None."""
    if values is None:
        return np.zeros((n, n), dtype=np.bool_)
    array = _numeric(values, "bad_pixels", "biu").astype(np.bool_)
    if array.shape != (n, n):
        raise ValueError(
            f"bad_pixels has the shape {array.shape}: give one mask for all patterns, ({n}, {n})."
        )
    if array.all():
        raise ValueError("bad_pixels covers the whole detector: True means bad; invert or repair the mask.")
    return array


def checked_probe(values: ArrayLike, n: int) -> NDArray[np.complex64]:
    """The modes of a probe, (modes, n, n) complex64, finite, not all 0; the first of several OPR indices."""
    array = _numeric(values, "probeGuess", "fc")
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 4 and len(array):
        array = array[0]
    if array.ndim != 3 or len(array) == 0 or array.shape[1:] != (n, n):
        raise ValueError(
            f"probeGuess has the shape {np.shape(values)}: patterns of N = {n} need ({n}, {n}) or "
            f"(modes, {n}, {n}); make the probe again for this pattern size."
        )
    require_finite(array, "probeGuess")
    if not array.any():
        raise ValueError("probeGuess is zero everywhere: give an estimate of the illumination.")
    return np.ascontiguousarray(array, dtype=np.complex64)


def checked_object(values: ArrayLike) -> NDArray[np.complex64]:
    """One layer of an object, (H, W) complex64, finite; (1, H, W) is accepted."""
    array = _numeric(values, "objectGuess", "fc")
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"objectGuess has the shape {array.shape}: give one layer, (H, W).")
    require_finite(array, "objectGuess")
    return np.ascontiguousarray(array, dtype=np.complex64)
