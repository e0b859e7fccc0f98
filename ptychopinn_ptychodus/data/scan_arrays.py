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
    """``count`` patterns of any size, (count, rows, columns), of the type that they came in.

    The axes (N, N, count) of older files are put in this order.
    """
    array = _numeric(values, "diff3d", "iuf")
    if array.ndim != 3:
        raise ValueError(f"diff3d has the shape {array.shape}: give patterns as (M, N, N).")
    # older files hold (N, N, M); where all three are equal that cannot be told, and (M, N, N) is the schema
    if array.shape[0] == array.shape[1] != array.shape[2] == count:
        array = np.moveaxis(array, 2, 0)
    if len(array) != count:
        raise ValueError(f"diff3d has {len(array)} patterns but xcoords has {count} positions: match them.")
    return array


def require_supported_size(shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless patterns of ``shape``, (..., rows, columns), are square and of some N."""
    rows, columns = shape[-2:]
    if rows == columns and rows in SIZES:
        return
    smaller = [n for n in sizes_beside(min(rows, columns)) if n < min(rows, columns)]
    if min(rows, columns) in SIZES:
        smaller = [min(rows, columns)]
    larger = [n for n in sizes_beside(max(rows, columns)) if n > max(rows, columns)]
    if max(rows, columns) in SIZES:
        larger = [max(rows, columns)]
    choices = " or ".join(
        [*(f"{n}, which crops them" for n in smaller), *(f"{n}, which pads them" for n in larger)]
    )
    raise ValueError(
        f"diff3d has patterns of {rows} × {columns} pixels (rows × columns), and N × N are needed; N is "
        f"{IN_WORDS}. Set PtychoPINNPluginData.PatternSize (ExaminationConfig.pattern_size) to {choices}; or "
        "crop, pad or bin them before, as Ptychodus' Diffraction view does."
    )


def checked_bad_pixels(values: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of bad pixels, of ``shape``, bool, with some good ones left; none are bad for None."""
    if values is None:
        return np.zeros(shape, dtype=np.bool_)
    array = _numeric(values, "bad_pixels", "biu").astype(np.bool_)
    if array.shape != shape:
        raise ValueError(f"bad_pixels has the shape {array.shape}: give one mask for all patterns, {shape}.")
    if array.all():
        raise ValueError("bad_pixels covers the whole detector: True means bad; invert or repair the mask.")
    return array


def checked_probe(values: ArrayLike, *shapes: tuple[int, int]) -> NDArray[np.complex64]:
    """The modes of a probe, (modes, rows, columns) complex64, finite, not all 0.

    Of several OPR indices it is the first. ``shapes`` are those that (rows, columns) may be.
    """
    array = _numeric(values, "probeGuess", "fc")
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 4 and len(array):
        array = array[0]
    if array.ndim != 3 or len(array) == 0 or array.shape[1:] not in shapes:
        of = " or ".join(f"{rows} × {columns}" for rows, columns in shapes)
        raise ValueError(
            f"probeGuess has the shape {np.shape(values)}: patterns of {of} pixels need (rows, columns) or "
            "(modes, rows, columns) of as many; make the probe again for this pattern size."
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
