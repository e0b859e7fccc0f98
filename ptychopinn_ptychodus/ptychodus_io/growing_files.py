"""A scan that is being written: what of it is there, read as it grows, without hindering whoever writes.

Patterns come from a growing ``diffraction.h5``, or from files that fall into a directory; positions from the
product beside them, and from ``positions.csv``. HDF5 files are opened without locks, by
single-writer-multiple-readers where they allow it, and else read again whenever they have changed. What
cannot be read at a moment is tried again; what never can is said in the end.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from .names import DIFFRACTION_FILE, OLD_PRODUCT_FILE, PRODUCT_FILE, product_in

POSITIONS_FILE = "positions.csv"
"""As Ptychodus reads it: y and x in metres on each line, of the frame whose number is the line's, from 0."""

FRAME_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")

_MOST_BYTES = 32 << 20  # of patterns, read at a time
_HOLES = 4096
_H5_PATTERNS = ("patterns", "entry/data/data", "exchange/data")


@dataclass(frozen=True)
class Chunk:
    """Frames that were read: their numbers, and one pattern for each."""

    numbers: list[int]
    patterns: list[NDArray[np.number]]


class FrameSource(Protocol):
    """Where frames come from.

    Attributes
    ----------
    promised
        How many frames there are going to be, as far as the file says so; else None.
    """

    promised: int | None

    def read(self) -> Chunk | None:
        """Some frames that are new; None if there are none at the moment."""

    def rest(self) -> Chunk | None:
        """Frames that are there, but hold no light, which seemed not to have been written yet."""

    def notes(self) -> list[str]:
        """What a person has to know of what cannot be read."""


class GrowingDiffraction:
    """``diffraction.h5``, whose datasets grow, or are filled from the front or anywhere.

    A frame without any light counts as not yet written, as long as the scan goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        self._holes: set[int] = set()
        self._stamp: tuple[int, int] | None = None
        self._has_more = False
        self._problem = ""
        self.promised: int | None = None

    def read(self) -> Chunk | None:
        """See :class:`FrameSource`."""
        stamp = _stamp(self._path)
        if stamp is None or (stamp == self._stamp and not self._has_more):
            return None
        try:
            with opened(self._path) as file:
                chunk = self._read(file)
        except (OSError, KeyError, RuntimeError, ValueError) as exc:
            self._problem = str(exc).strip("'\"")  # somebody is writing it: again when it has changed
            self._stamp, self._has_more = stamp, False
            return None
        self._problem, self._stamp = "", stamp
        return chunk

    def _read(self, file: h5py.File) -> Chunk | None:
        patterns, indexes = file["patterns"], file["indexes"]
        most = patterns.maxshape[0]
        self.promised = None if most is None else int(most)
        end = min(len(patterns), len(indexes))
        count = max(_MOST_BYTES // max(patterns.dtype.itemsize * int(np.prod(patterns.shape[1:])), 1), 1)
        rows: list[int] = []
        found: list[NDArray[np.number]] = []
        for row in sorted(self._holes)[: count // 4]:
            pattern = patterns[row]
            if pattern.any():
                self._holes.discard(row)
                rows.append(row)
                found.append(pattern)
        stop = min(self._next + count, end)
        block = patterns[self._next : stop]
        lit = block.reshape(len(block), -1).any(axis=1)
        # behind the last frame with light, nothing has been written yet
        last = int(np.flatnonzero(lit)[-1]) + 1 if lit.any() else 0
        if stop < end and last < len(block):
            last = len(block)
        for row, pattern, is_lit in zip(range(self._next, self._next + last), block, lit, strict=False):
            if is_lit:
                rows.append(row)
                found.append(pattern)
            elif len(self._holes) < _HOLES:
                self._holes.add(row)
        self._next += last
        self._has_more = last == count and self._next < end
        return Chunk([int(indexes[row]) for row in rows], found) if rows else None

    def rest(self) -> Chunk | None:
        """See :class:`FrameSource`."""
        try:
            with opened(self._path) as file:
                patterns, indexes = file["patterns"], file["indexes"]
                rows = sorted(row for row in self._holes if row < len(patterns))
                self._holes.clear()
                return Chunk([int(indexes[row]) for row in rows], [patterns[row] for row in rows])
        except (OSError, KeyError, RuntimeError, ValueError):
            return None

    def notes(self) -> list[str]:
        """See :class:`FrameSource`."""
        if self._problem:
            return [f'"{self._path}" cannot be read at the moment ({self._problem}).']
        return []

    def bad_pixels(self) -> NDArray[np.bool_] | None:
        """The mask, (N, N), as far as there is one."""
        try:
            with opened(self._path) as file:
                return np.asarray(file["bad_pixels"][()], np.bool_) if "bad_pixels" in file else None
        except (OSError, KeyError, RuntimeError, ValueError):
            return None


class FallingFiles:
    """Files of frames that appear in a directory: NPY, NPZ and HDF5, of one frame or several each.

    NPZ and Ptychodus' HDF5 files name their frames by ``indexes``. The frame in another file has the last
    number in the file's name, and those after it count on.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._done: dict[str, tuple[int, int]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._damaged: dict[str, str] = {}
        self.promised: int | None = None

    def read(self) -> Chunk | None:
        """See :class:`FrameSource`."""
        for path in sorted(self._directory.iterdir()):
            if path.suffix not in FRAME_SUFFIXES or path.name.startswith(".") or _is_of_product(path):
                continue
            stamp = _stamp(path)
            if stamp is None or self._done.get(path.name) == stamp:
                continue
            settled = self._sizes.get(path.name) == stamp  # as it was when it was looked at before
            self._sizes[path.name] = stamp
            try:
                chunk = _frames_in(path)
            except Exception as exc:  # whatever a file that is half there leads to in any library
                if settled:
                    self._damaged[path.name] = str(exc).strip("'\"") or type(exc).__name__
                    self._done[path.name] = stamp
                continue
            self._done[path.name] = stamp
            self._damaged.pop(path.name, None)
            return chunk
        return None

    def rest(self) -> Chunk | None:
        """See :class:`FrameSource`."""
        return None

    def notes(self) -> list[str]:
        """See :class:`FrameSource`."""
        return [f'"{name}" cannot be read and is left out: {why}' for name, why in self._damaged.items()]


@dataclass
class GrowingPositions:
    """Positions of a standard directory, as they grow: those of the product, and ``positions.csv``.

    Attributes
    ----------
    directory
        The standard directory.
    """

    directory: Path
    _stamps: dict[str, tuple[int, int]] = field(default_factory=dict)

    def read(self) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Numbers and [x, y] in metres of all positions that there are; None if nothing has changed."""
        found = [
            self._changed(product_in(self.directory), _product_positions),
            self._changed(self.directory / POSITIONS_FILE, _csv_positions),
        ]
        there = [each for each in found if each is not None]
        if not there:
            return None
        return np.concatenate([each[0] for each in there]), np.concatenate([each[1] for each in there])

    def _changed(self, path: Path, read: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        stamp = _stamp(path)
        if stamp is None or self._stamps.get(path.name) == stamp:
            return None
        try:
            found: tuple[NDArray[np.int64], NDArray[np.float64]] = read(path)
        except (OSError, KeyError, RuntimeError, ValueError):
            return None  # somebody is writing it
        self._stamps[path.name] = stamp
        return found


def source_in(directory: Path) -> FrameSource:
    """Where frames of a directory come from: its ``diffraction.h5``, or the files that fall into it."""
    path = directory / DIFFRACTION_FILE
    others = [
        each
        for each in directory.iterdir()
        if each.suffix in FRAME_SUFFIXES and not _is_of_product(each) and each != path
    ]
    return FallingFiles(directory) if others and not path.exists() else GrowingDiffraction(path)


def has_frames(directory: Path) -> bool:
    """Whether there is anything to follow yet."""
    return any(each.suffix in FRAME_SUFFIXES and not _is_of_product(each) for each in directory.iterdir())


def _is_of_product(path: Path) -> bool:
    return path.name in (PRODUCT_FILE, OLD_PRODUCT_FILE)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that may be written to meanwhile; it is not locked, so that the writer can open it."""
    try:
        file = h5py.File(path, "r", swmr=True, libver="latest", locking=False)
    except (OSError, ValueError):
        file = h5py.File(path, "r", locking=False)
    with file:
        yield file


def _product_positions(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    with opened(path) as file:
        names = ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m")
        arrays = [np.asarray(file[name][()]) for name in names]
    count = min(len(array) for array in arrays)  # one of them may have grown first
    indexes, x, y = (array[:count] for array in arrays)
    return indexes.astype(np.int64), np.stack((x, y), -1).astype(np.float64)


def _csv_positions(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # the last line may be half there
    numbers, positions = [], []
    for number, row in enumerate(csv.reader(whole.splitlines())):
        if len(row) < 2 or row[0].startswith("#"):
            continue
        try:
            y, x = float(row[0]), float(row[1])
        except ValueError:
            x = y = float("nan")
        numbers.append(number)
        positions.append((x, y))
    return np.array(numbers, np.int64), np.array(positions, np.float64).reshape(-1, 2)


def _frames_in(path: Path) -> Chunk:
    first = int(digits[-1]) if (digits := re.findall(r"\d+", path.stem)) else 0
    numbers: NDArray[Any] | None = None
    if path.suffix == ".npy":
        patterns = np.load(path, allow_pickle=False)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            patterns = file["patterns"]
            numbers = file.get("indexes")
    else:
        with opened(path) as file:
            name = next((name for name in _H5_PATTERNS if name in file), None)
            if name is None:
                raise ValueError(f"there is none of the datasets {', '.join(_H5_PATTERNS)} in it")
            patterns = file[name][()]
            numbers = file["indexes"][()] if "indexes" in file else None
    several = [patterns] if patterns.ndim == 2 else list(patterns)
    given = list(range(first, first + len(several))) if numbers is None else np.atleast_1d(numbers).tolist()
    if len(given) != len(several):
        raise ValueError(f"{len(several)} frames have {len(given)} indexes")
    return Chunk([int(number) for number in given], several)
