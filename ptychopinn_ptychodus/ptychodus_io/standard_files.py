"""Whether the two files of a standard directory are what Ptychodus can read, before it reads them.

Ptychodus takes what HDF5 gives it: where a file is damaged or was written by something else, its errors are
those of the libraries beneath it, of any class, and name neither file nor dataset. A file may also claim to
hold far more than was ever written to it, and reading it would fill the memory. Only what is small is read
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..data.scan_files import unwritten_claim
from .product_geometry import DIFFRACTION_ATTRIBUTES, PRODUCT_ATTRIBUTES, Quantity, attribute_faults

_REMEDY = "It may be incomplete or of another kind: save it again with Ptychodus."


@dataclass(frozen=True)
class _Rule:
    """What a dataset may be: letters of ``dtype.kind``, numbers of axes, and what its values have to be.

    One that ``has_pixels`` has some along its last two axes.
    """

    kinds: str
    axes: tuple[int, ...]
    values: str = ""
    has_pixels: bool = False


_NUMBERS, _WHOLE = "finite", "whole"

_DIFFRACTION = {
    "indexes": _Rule("iuf", (1,), _WHOLE),
    "patterns": _Rule("biuf", (3,), has_pixels=True),
    "bad_pixels": _Rule("biuf", (2,)),
    "probe_photon_counts": _Rule("iuf", (1,), _NUMBERS),
}
_PRODUCT = {
    "probe_position_indexes": _Rule("iuf", (1,), _WHOLE),
    "probe_position_x_m": _Rule("iuf", (1,), _NUMBERS),
    "probe_position_y_m": _Rule("iuf", (1,), _NUMBERS),
    "probe_photon_counts": _Rule("iuf", (1,), _NUMBERS),
    "probe": _Rule("iufc", (2, 3, 4)),
    "opr_weights": _Rule("iuf", (2,)),
    "object": _Rule("iufc", (2, 3)),
    "object_layer_spacing_m": _Rule("iuf", (0, 1)),
    "loss_epochs": _Rule("iuf", (1,)),
    "loss_values": _Rule("iuf", (1,)),
}

_PER_POSITION = ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m", "probe_photon_counts")
_LARGEST_INDEX = 2**53


def check_standard_files(diffraction: Path, product: Path) -> None:
    """Raise ``ValueError`` unless these two can be read, and fit together.

    What is missing is left to Ptychodus, which knows what it can do without.

    Raises
    ------
    ValueError
        If one of them is no HDF5 file, a dataset is of another kind, has another number of axes, holds texts
        or infinite numbers for numbers, claims far more than was written, a number that the geometry follows
        from (:mod:`.product_geometry`) cannot be what it stands for, or no position is of a pattern.
        The message names file and dataset, and says what to do.
    """
    per_pattern = ("indexes", "patterns", "probe_photon_counts")
    patterns = _check(diffraction, _DIFFRACTION, DIFFRACTION_ATTRIBUTES, per_pattern)
    positions = _check(product, _PRODUCT, PRODUCT_ATTRIBUTES, _PER_POSITION)
    of_patterns, of_positions = patterns.get("indexes"), positions.get("probe_position_indexes")
    if of_patterns is None or of_positions is None:
        return
    for path, indexes, what in (
        (diffraction, of_patterns, "patterns"),
        (product, of_positions, "probe positions"),
    ):
        if not len(indexes):
            raise ValueError(f'"{path}" holds no {what}: save a scan there that has some.')
    if of_patterns.max() < of_positions.min() or of_patterns.min() > of_positions.max():
        raise ValueError(
            f'The patterns in "{diffraction}" have the indexes {of_patterns.min():g} to '
            f'{of_patterns.max():g}, the positions in "{product}" {of_positions.min():g} to '
            f"{of_positions.max():g}: no position "
            "belongs to a pattern. Save both from the same scan."
        )


def _check(
    path: Path,
    rules: Mapping[str, _Rule],
    attributes: Mapping[str, Mapping[str, Quantity]],
    equally_long: tuple[str, ...],
) -> dict[str, NDArray[Any]]:
    """The arrays that were read, by name."""
    lengths: dict[str, int] = {}
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with h5py.File(path, "r") as file:
            _check_attributes(file, "", attributes)
            for name, rule in rules.items():
                if name not in file.keys():  # noqa: SIM118 (in file: whether a link leads anywhere)
                    continue
                dataset = _dataset(file, name, rule)
                _check_attributes(dataset, name, attributes)
                if rule.values:
                    arrays[name] = _values(dataset[()], name, rule)
                if name in equally_long:
                    lengths[name] = int(dataset.shape[0])
    except _NotUsableError as exc:
        raise ValueError(f'"{path}": {exc} {exc.remedy}'.rstrip()) from exc
    except Exception as exc:  # whatever damage leads to in HDF5
        raise ValueError(f'"{path}" cannot be read as an HDF5 file ({_reason(exc)}). {_REMEDY}') from exc
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise ValueError(
            f'"{path}": there has to be one entry per pattern or position, but {counted}. {_REMEDY}'
        )
    return arrays


class _NotUsableError(Exception):
    """One sentence on a dataset, and what to do unless it says so itself."""

    def __init__(self, message: str, remedy: str = _REMEDY) -> None:
        super().__init__(message)
        self.remedy = remedy


def _dataset(file: h5py.File, name: str, rule: _Rule) -> h5py.Dataset:
    try:
        dataset = file[name]
    except (KeyError, OSError, RuntimeError) as exc:
        raise _NotUsableError(f'"{name}" is a link that leads nowhere ({_reason(exc)}).') from exc
    if not isinstance(dataset, h5py.Dataset):
        raise _NotUsableError(f'"{name}" is no dataset but a {type(dataset).__name__}.')
    if dataset.dtype.kind not in rule.kinds:
        raise _NotUsableError(f'The dataset "{name}" holds values of the type {dataset.dtype}.')
    if dataset.dtype.kind in "fc" and np.finfo(dataset.dtype).nmant > np.finfo(np.float64).nmant:
        raise _NotUsableError(f'The dataset "{name}" holds {dataset.dtype}, more than double precision.')
    if dataset.shape is None or len(dataset.shape) not in rule.axes:
        axes = " or ".join(map(str, rule.axes))
        raise _NotUsableError(
            f'The dataset "{name}" has the shape {dataset.shape}, where {axes} axes are needed.'
        )
    if rule.has_pixels and 0 in dataset.shape[-2:]:
        height, width = dataset.shape[-2:]
        raise _NotUsableError(f'The dataset "{name}" has {height} × {width} pixels (rows × columns).')
    if claim := unwritten_claim(dataset):
        raise _NotUsableError(f'The dataset "{name}" {claim}.')
    return dataset


def _check_attributes(
    holder: h5py.HLObject, name: str, attributes: Mapping[str, Mapping[str, Quantity]]
) -> None:
    for fault in attribute_faults(holder.attrs, name, attributes.get(name, {})):
        raise _NotUsableError(fault, remedy="")


def _values(array: NDArray[Any], name: str, rule: _Rule) -> NDArray[Any]:
    wrong = np.count_nonzero(~np.isfinite(array))
    if wrong:
        raise _NotUsableError(f'The dataset "{name}" holds {wrong} values that are NaN or infinite.')
    if rule.values == _WHOLE:
        odd = array[(array != np.rint(array)) | (np.abs(array.astype(np.float64)) > _LARGEST_INDEX)]
        if len(odd):
            raise _NotUsableError(f'The dataset "{name}" holds {odd[0]}, which is no index of a pattern.')
    return array


def _reason(exc: Exception) -> str:
    return str(exc).strip("'\"")[:200] or type(exc).__name__
