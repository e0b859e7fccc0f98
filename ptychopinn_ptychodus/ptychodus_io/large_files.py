"""Ptychodus' file of patterns, read by its own reader, and into a temporary file where they are many."""

from __future__ import annotations

import inspect
import os
import tempfile
from pathlib import Path
from typing import Any

from ..data import large_arrays
from ..data.detector import PATTERNS


def load_patterns(path: Path) -> Any:
    """What Ptychodus' ``load_diffraction_data`` makes of a file; large patterns are :class:`.LargeArray`.

    Raises
    ------
    NoRoomError
        If there is no room for them.
    Exception
        Whatever Ptychodus' reader raises, and the libraries beneath it.
    """
    from ptychodus.api.io import load_diffraction_data

    parameters = inspect.signature(load_diffraction_data).parameters
    # older ones read into memory whatever it is; files of a system that cannot remove an open one would stay
    if not {"mmap_file", "mmap_chunk_frames"} <= parameters.keys() or os.name != "posix":
        return load_diffraction_data(path)
    size, frames = _size(path)
    if size <= large_arrays.MOST_IN_MEMORY:
        return load_diffraction_data(path)
    step = max(1, large_arrays.BLOCK * frames // size)
    with tempfile.TemporaryDirectory(dir=large_arrays.require_room(size, PATTERNS)) as directory:
        found = load_diffraction_data(path, mmap_file=Path(directory) / "patterns", mmap_chunk_frames=step)
    return type(found)(
        found.get_indexes(),
        large_arrays.adopted(found.get_patterns()),
        found.get_pixel_geometry(),
        found.get_bad_pixels(),
    )


def _size(path: Path) -> tuple[int, int]:
    """Bytes and number of the patterns in the file."""
    import h5py

    with h5py.File(path, "r") as file:
        patterns = file["patterns"]
        return int(patterns.nbytes), len(patterns)
