"""Files that hold a scan, as the arrays that make a :class:`~.raw.RawData`, which checks what they hold.

Two kinds: NPZ files under the keys of this package, written here, by Ptychodus' PtychoPINN exporter or by
older scripts; and Ptychodus' own HDF5 training data (``ptychodus.api.io.save_training_data``), which are read
without Ptychodus. Nothing in a file is executed: arrays of Python objects are refused.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..files import NoRoomError
from . import large_arrays
from .detector import PATTERNS

HDF5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (".npz", *HDF5_SUFFIXES)
"""Of files that may hold a scan."""

DOMAIN_KEY = "diff3d_domain"
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DIFFRACTION_KEY = "diff3d"
_LEGACY_DIFFRACTION_KEY = "diffraction"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_REQUIRED = ("xcoords", "ycoords", "probeGuess", "diff3d")
_OPTIONAL = (
    "xcoords_start",
    "ycoords_start",
    "scan_index",
    "objectGuess",
    "bad_pixels",
    "exposures",
    DOMAIN_KEY,
)

_LARGE = 2**30
_LEAST_WRITTEN = 0.01
"""Of a dataset of ``_LARGE`` bytes and more, or it is taken for damaged."""

_OF_PTYCHODUS = {
    "patterns": "diff3d",
    "bad_pixels": "bad_pixels",
    "probe": "probeGuess",
    "probe_position_x_px": "xcoords",
    "probe_position_y_px": "ycoords",
    "object": "objectGuess",
}
"""Datasets of Ptychodus' HDF5 training data, and what they are here; positions are in object pixels."""


def read_scan(path: Path) -> dict[str, Any]:
    """Arrays and ``domain``, by the names of RawData's parameters.

    Raises
    ------
    ValueError
        If the file is neither kind, damaged or incomplete; the message names it.
    NoRoomError
        If there is no room for large patterns, which are read into a file of their own.
    """
    if is_hdf5(path):
        fields, others = _read_hdf5(path)
        fields["domain"] = "counts"  # of whatever type: Ptychodus works on nothing else
    else:
        fields, others = _read_npz(path)
        if _LEGACY_DIFFRACTION_KEY in fields:
            fields["diff3d"] = fields.pop(_LEGACY_DIFFRACTION_KEY)
        fields["domain"] = str(fields.pop(DOMAIN_KEY)) if DOMAIN_KEY in fields else None
    names = {ours: theirs for theirs, ours in _OF_PTYCHODUS.items()} if is_hdf5(path) else {}
    missing = [names.get(key, key) for key in _REQUIRED if key not in fields]
    if missing:
        held = ", ".join(sorted([*(names.get(key, key) for key in fields if key != "domain"), *others]))
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it holds {held or 'nothing'}. "
            "Export the scan again as training data."
        )
    return fields


def holds_scan(path: Path) -> bool:
    """Whether a file has what a scan needs, by the names in it; its arrays are not read.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    if is_hdf5(path):
        return set(_OF_PTYCHODUS) - {"bad_pixels", "object"} <= set(_read_hdf5(path, names_only=True)[1])
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
    except Exception as error:  # such as a NotImplementedError, or an unknown code page of its names
        raise ValueError(f"{path} cannot be read as an NPZ file ({error}): export the scan again.") from error
    return "xcoords" in keys and bool(keys & {"diff3d", _LEGACY_DIFFRACTION_KEY})


def is_hdf5(path: Path) -> bool:
    """By its name, or by its first bytes whatever it is called."""
    if path.suffix.lower() in HDF5_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE


def _read_npz(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The arrays that make a scan, and the names of others in the file, which are not read."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            legacy = () if "diff3d" in archive.files else (_LEGACY_DIFFRACTION_KEY,)
            keys = {*_REQUIRED, *_OPTIONAL, *legacy} & set(archive.files)
            fields = {key: _member(archive, key) for key in sorted(keys)}
            return fields, [key for key in archive.files if key not in keys]
    except NoRoomError:
        raise
    except Exception as error:  # whatever a damaged archive, or the header of an array in it, leads to
        raise ValueError(
            f"{path} cannot be read as an NPZ file of numeric arrays ({error}). It may be incomplete, of "
            "another format, or hold Python objects, which are never loaded: export the scan again."
        ) from error


def _member(archive: np.lib.npyio.NpzFile, key: str) -> NDArray[Any]:
    """An array of an archive; patterns that are large a part at a time, into a file of their own."""
    name = f"{key}.npy"
    members = archive.zip
    is_patterns = key in (_DIFFRACTION_KEY, _LEGACY_DIFFRACTION_KEY)
    if is_patterns and members is not None and name in members.namelist():
        with members.open(name) as member:
            read_header = _HEADERS.get(np.lib.format.read_magic(member))
            if read_header is not None:
                shape, fortran_order, dtype = read_header(member)
                large = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > large_arrays.MOST_IN_MEMORY
                if large and not fortran_order and dtype.kind in "iuf" and len(shape) == 3:
                    return _streamed(member, shape, dtype)
    array: NDArray[Any] = archive[key]
    return array


def _streamed(member: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    array = large_arrays.empty(shape, dtype, PATTERNS)
    for part in large_arrays.blocks(array):
        count = array[part].nbytes
        block = member.read(count)
        if len(block) < count:
            raise ValueError("the patterns end before their time")
        array[part] = np.frombuffer(block, dtype).reshape(array[part].shape)
    return array


def _read_hdf5(path: Path, *, names_only: bool = False) -> tuple[dict[str, Any], list[str]]:
    """As :func:`_read_npz` for Ptychodus' training data; with ``names_only`` nothing is read but names."""
    import h5py  # few need it, and it takes a moment

    try:
        with h5py.File(path, "r") as file:
            if names_only:
                return {}, list(file)
            names = [name for name in _OF_PTYCHODUS if name in file]
            fields = {_OF_PTYCHODUS[name]: _array_in(file, name) for name in names}
            return fields, [name for name in file if name not in names]
    except NoRoomError:
        raise
    except Exception as error:  # whatever a damaged HDF5 file leads to
        raise ValueError(
            f"{path} cannot be read as Ptychodus' HDF5 training data ({error}). It may be incomplete or of "
            "another format: export the scan again."
        ) from error


def _array_in(file: Any, name: str) -> NDArray[Any]:
    import h5py

    # a link could lead to another file, and so could a dataset that keeps its values elsewhere
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link")
    item = file[name]
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise ValueError(f"{name} is no array in this file")
    if claim := unwritten_claim(item):
        raise ValueError(f"{name} {claim}")
    if item.ndim == 0 or item.dtype.kind not in "iufc":
        return np.asarray(item[()])
    array = large_arrays.empty(item.shape, item.dtype, PATTERNS)
    # whole chunks of the file at a time: each is unpacked as a whole
    chunk = 1 if item.chunks is None else item.chunks[0]
    step = chunk * max(1, large_arrays.BLOCK // max(1, chunk * array[:1].nbytes))
    for start in range(0, len(array), step):
        array[start : start + step] = item[start : start + step]
    return array


def unwritten_claim(dataset: Any) -> str:
    """What a large HDF5 dataset claims to hold and does not; empty for all others.

    Parts that were never written are made up when they are read: a file of a kilobyte could fill the memory.
    """
    if dataset.nbytes < _LARGE or dataset.chunks is None:
        return ""
    written = dataset.id.get_num_chunks() * int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    if written >= _LEAST_WRITTEN * dataset.nbytes:
        return ""
    return f"claims {dataset.nbytes / 1e9:.0f} GB, of which {written / 1e9:.3f} GB were ever written"
