"""The directory of frames that were written as they came: how it is laid out, and what is there afterwards.

See :mod:`.kept_frames`, which writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from .live_products import ProductTemplate
from .names import DIFFRACTION_FILE, PRODUCT_FILE

NOTE_FILE = "not_reconstructed.txt"
"""Lies beside frames that nobody has reconstructed yet, and says so."""

PATTERNS, INDEXES, NUMBERS, POSITIONS = "patterns", "indexes", "frame_numbers", "frame_positions_m"
NONE = -1
_BLOCK = 64 << 20  # bytes that are copied at a time

_NOTE = """\
The frames of a stream, which were written here as they came. They have not been reconstructed yet:

    ptychopinn-ptychodus reconstruct -i "{directory}" -o OUT

or open {diffraction} and {product} in Ptychodus. A scan that begins meanwhile leaves them alone.
"""


@dataclass(frozen=True, eq=False)
class Kept:
    """Frames that were kept.

    Attributes
    ----------
    numbers
        (M,) in the order in which they came.
    patterns
        (M, N, N).
    positions_m
        (M, 2) [x, y]; NaN for those without a position.
    """

    numbers: NDArray[np.int64]
    patterns: NDArray[np.number]
    positions_m: NDArray[np.float64]


def write_note(directory: Path) -> None:
    """Say beside the frames of a directory that nobody has reconstructed them yet."""
    note = _NOTE.format(directory=directory, diffraction=DIFFRACTION_FILE, product=PRODUCT_FILE)
    (directory / NOTE_FILE).write_text(note, encoding="utf-8")


def is_waiting(directory: Path) -> bool:
    """Whether there are frames that nobody has reconstructed yet."""
    return (directory / NOTE_FILE).is_file() and (directory / DIFFRACTION_FILE).is_file()


def are_reconstructed(directory: Path) -> None:
    """Take note that the frames of a directory have been reconstructed."""
    (directory / NOTE_FILE).unlink(missing_ok=True)


def complete(directory: Path) -> int:
    """Count in whatever a process that was killed had received; how many frames have a position.

    Raises
    ------
    OSError, ValueError, KeyError
        If a file cannot be read or written.
    """
    path = directory / DIFFRACTION_FILE
    with h5py.File(path, "r") as file:
        indexes = np.asarray(file[INDEXES][()], np.int64)
        if NUMBERS not in file:  # written at the end of a scan
            return len(indexes)
        numbers = np.asarray(file[NUMBERS][()], np.int64)
        positions_m = np.asarray(file[POSITIONS][()], np.float64)
        bad_pixels = np.asarray(file["bad_pixels"][()], np.bool_)
        offset = file[INDEXES].id.get_offset()
    placed = (numbers >= 0) & np.isfinite(positions_m).all(1)
    if not np.array_equal(indexes[placed], numbers[placed]):
        template = ProductTemplate.read(directory / PRODUCT_FILE)
        rows = np.flatnonzero(placed)
        rows = rows[np.argsort(numbers[rows])]
        write_product(directory, template, numbers[rows], positions_m[rows], bad_pixels)
        with path.open("r+b", buffering=0) as raw:
            put(raw, offset, np.where(placed, numbers, NONE))
    return int(placed.sum())


def read(directory: Path) -> Kept:
    """The frames of a directory in which nobody writes any more, after :func:`complete`.

    Raises
    ------
    OSError, ValueError, KeyError
        If a file cannot be read.
    """
    with h5py.File(directory / DIFFRACTION_FILE, "r") as file:
        if NUMBERS in file:
            numbers = np.asarray(file[NUMBERS][()], np.int64)
            count = int((numbers >= 0).sum())  # rows are filled from the front
            return Kept(numbers[:count], file[PATTERNS][:count], file[POSITIONS][:count])
        numbers, patterns = np.asarray(file[INDEXES][()], np.int64), file[PATTERNS][()]
    with h5py.File(directory / PRODUCT_FILE, "r") as file:
        names = ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m")
        indexes, x, y = (np.asarray(file[name][()]) for name in names)
    where = dict(zip(indexes.astype(int).tolist(), zip(x.tolist(), y.tolist(), strict=True), strict=True))
    nowhere = (float("nan"), float("nan"))
    return Kept(numbers, patterns, np.array([where.get(number, nowhere) for number in numbers.tolist()]))


def set_aside(directory: Path) -> Path:
    """Move frames that nobody has reconstructed out of the way of a new scan; where they are now."""
    number = 1
    while (aside := directory.with_name(f"{directory.name}-{number}")).exists():
        number += 1
    directory.rename(aside)
    write_note(aside)
    return aside


def write_product(
    directory: Path,
    template: ProductTemplate,
    numbers: NDArray[np.int64],
    positions_m: NDArray[np.float64],
    bad_pixels: NDArray[np.bool_],
) -> None:
    """Replace the product of a directory by one that has these positions, (M, 2) [x, y], of these frames."""
    template.write_scan(
        directory / PRODUCT_FILE,
        numbers=numbers,
        positions=template.pixels(positions_m),
        size=bad_pixels.shape[-1],
    )


def lay_out(
    path: Path,
    room: int,
    size: int,
    dtype: np.dtype[Any],
    bad_pixels: NDArray[np.bool_],
    template: ProductTemplate,
) -> dict[str, int]:
    """Make a file of empty rows; where the first of them begins, by dataset, in bytes."""
    as_one = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    as_one.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    as_one.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        file.create_dataset(INDEXES, data=np.full(room, NONE, np.int64))
        file.create_dataset(NUMBERS, data=np.full(room, NONE, np.int64))
        file.create_dataset(POSITIONS, data=np.full((room, 2), np.nan))
        file.create_dataset("bad_pixels", data=bad_pixels)
        patterns = file.create_dataset(PATTERNS, (room, size, size), dtype, dcpl=as_one)
        patterns.attrs.update(template.detector_pixel(size))
        names = (INDEXES, NUMBERS, POSITIONS, PATTERNS)
        return {name: int(file[name].id.get_offset()) for name in names}


def fill(path: Path, kept: Kept) -> None:
    """Write frames, and where they are, into the first rows of a file."""
    count = len(kept.numbers)
    with h5py.File(path, "r+") as file:
        file[PATTERNS][:count] = kept.patterns
        file[POSITIONS][:count] = kept.positions_m
        file[NUMBERS][:count] = kept.numbers


def copy_rows(source: Path, target: Path, count: int) -> None:
    """Copy the rows of one file to another that has room for more."""
    with h5py.File(source, "r") as old, h5py.File(target, "r+") as new:
        for name in (PATTERNS, POSITIONS, INDEXES, NUMBERS):
            step = max(1, _BLOCK * len(old[name]) // old[name].nbytes)
            for start in range(0, count, step):
                part = slice(start, min(start + step, count))
                new[name][part] = old[name][part]


def put(file: BinaryIO, offset: int, values: NDArray[Any]) -> None:
    """Write values into the place that is there for them."""
    file.seek(offset)
    left = memoryview(values.tobytes())
    while left:  # a system may take less than it is given
        left = left[file.write(left) :]
