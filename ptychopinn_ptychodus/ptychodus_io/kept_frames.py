"""Frames on the disk as they come: a standard directory that can be opened whenever its writer is killed.

``diffraction.h5`` is made before the first frame, with room for all of them, and closed again. From then on
values are only written in the places that are there for them. Nothing of HDF5's structure is changed any
more, so that there is no moment at which the file could not be opened, and a frame costs one write of its own
size, however many came before.

A row whose index is negative is none for Ptychodus, which leaves its own unfilled rows like that. A frame
gets its index once its position is in ``product.h5``, which is replaced about every second, because Ptychodus
makes up positions for frames that have none. What has come since lies in datasets that Ptychodus does not
look at, and :func:`.kept_directory.complete` counts it in.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..files import NoRoomError, is_full_disk, replacing, take_room
from ..formatting import counted
from .kept_directory import (
    INDEXES,
    NONE,
    NUMBERS,
    PATTERNS,
    POSITIONS,
    Kept,
    copy_rows,
    fill,
    lay_out,
    put,
    write_note,
    write_product,
)
from .live_products import ProductTemplate
from .names import DIFFRACTION_FILE, PRODUCT_FILE

_SHOW_S = 1.0
_SHARE = 0.1  # of the time, at most, that products take


class KeptFrames:
    """Frames of a scan, written to a standard directory as they come; from any thread.

    Parameters
    ----------
    directory
        Where they go; what lies there is replaced.
    template
        The product that the scan came with.
    bad_pixels
        (N, N) bool.
    room, dtype
        How many frames are expected, and of which type. Room on the disk is taken for all of them at once.
        More of them, or such of a larger type, have the file made anew, with room for twice as many.
    logger
        Where it is said if they cannot be written any more.
    kept
        Frames to begin with, of a run before.

    Raises
    ------
    NoRoomError
        If the disk has no room; the message says where, how much it takes and what to do.
    OSError
        If it cannot be written to.
    """

    def __init__(
        self,
        directory: Path,
        template: ProductTemplate,
        bad_pixels: NDArray[np.bool_],
        *,
        room: int,
        dtype: np.dtype[Any],
        logger: logging.Logger,
        kept: Kept | None = None,
    ) -> None:
        self._directory, self._template, self._bad_pixels = directory, template, bad_pixels
        self._logger = logger
        self._path = directory / DIFFRACTION_FILE
        self._rows: dict[int, int] = {}
        self._positions: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._news, self._over = threading.Event(), threading.Event()
        self._file: BinaryIO | None = None
        self._has_failed_to_show = False
        directory.mkdir(parents=True, exist_ok=True)
        self._make(max(room, 1), np.dtype(dtype), kept)
        if kept is None:
            self._write_plan()
        write_note(directory)
        self._thread = threading.Thread(target=self._run, name="kept frames", daemon=True)
        self._thread.start()

    def add(self, numbers: Sequence[int], patterns: Iterable[NDArray[np.number]]) -> None:
        """Write frames that are new, (N, N) each; if that fails, it is logged, and is the end of it."""
        with self._lock:
            try:
                for number, pattern in zip(numbers, patterns, strict=True):
                    if self._file is not None:
                        self._write(int(number), np.asarray(pattern))
            except OSError as exc:
                self._fail(exc)
        self._news.set()

    def place(self, numbers: Sequence[int], positions_m: NDArray[np.float64]) -> None:
        """Write where frames lie, (B, 2) [x, y]; a frame's first position counts, and may come before it."""
        with self._lock:
            try:
                for number, (x, y) in zip(map(int, numbers), positions_m.tolist(), strict=True):
                    if number not in self._positions and np.isfinite((x, y)).all():
                        self._positions[number] = (x, y)
                        if number in self._rows and self._file is not None:
                            self._write_position(number)
            except OSError as exc:
                self._fail(exc)
        self._news.set()

    def close(self) -> None:
        """Write nothing more; what is there can be opened."""
        self._over.set()
        self._news.set()
        self._thread.join()
        self._show()
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    # ------------------------------------------------------------------ the file

    def _make(self, room: int, dtype: np.dtype[Any], kept: Kept | None = None) -> None:
        """Make the file, with the frames so far, or those of a run before."""
        if kept is not None:
            room = max(room, len(kept.numbers))
            dtype = np.promote_types(dtype, kept.patterns.dtype)
        size = self._bad_pixels.shape[-1]
        try:
            with replacing(self._path) as file:
                # first, since HDF5 would only say that it cannot go on
                take_room(file, room * size * size * dtype.itemsize)
                offsets = lay_out(Path(file.name), room, size, dtype, self._bad_pixels, self._template)
                take_room(file, Path(file.name).stat().st_size)
                if kept is not None:
                    fill(Path(file.name), kept)
                elif self._rows:
                    copy_rows(self._path, Path(file.name), len(self._rows))
        except OSError as exc:
            if not is_full_disk(exc):
                raise
            bytes_ = room * size * size * dtype.itemsize
            free = shutil.disk_usage(self._directory).free
            raise NoRoomError(
                f'There is no room in "{self._directory}": {counted(room, "frame")} of {size} × {size} '
                f"pixels take {bytes_:,} bytes there, and {free:,} are free. Make room there, or name "
                "another directory for the result."
            ) from exc
        if self._file is not None:
            self._file.close()
        self._file = self._path.open("r+b", buffering=0)
        self._offsets, self._room, self._dtype = offsets, room, dtype
        if kept is not None:
            for row, (number, place) in enumerate(zip(kept.numbers.tolist(), kept.positions_m, strict=True)):
                self._rows[number] = row
                if np.isfinite(place).all():
                    self._positions[number] = (float(place[0]), float(place[1]))
            self._news.set()

    def _write(self, number: int, pattern: NDArray[np.number]) -> None:
        if number in self._rows:
            return
        row = len(self._rows)
        if row >= self._room or not np.can_cast(pattern.dtype, self._dtype):
            room = 2 * self._room if row >= self._room else self._room
            self._make(room, np.promote_types(self._dtype, pattern.dtype))
        self._put(PATTERNS, row, np.ascontiguousarray(pattern, self._dtype))
        self._put(NUMBERS, row, np.array(number, np.int64))  # after the pattern, which is whole then
        self._rows[number] = row
        if number in self._positions:
            self._write_position(number)

    def _write_position(self, number: int) -> None:
        self._put(POSITIONS, self._rows[number], np.array(self._positions[number], np.float64))

    def _put(self, name: str, row: int, values: NDArray[Any]) -> None:
        assert self._file is not None
        put(self._file, self._offsets[name] + row * values.nbytes, values)

    def _fail(self, exc: OSError) -> None:
        """Give the file up as it is, and say so."""
        assert self._file is not None
        self._file.close()
        self._file = None
        self._logger.error(
            'Frames are not written to "%s" any more (%s): the %s so far are there, and those from now on '
            "are in memory only, until the scan ends.",
            self._path,
            str(exc).rstrip("."),
            counted(len(self._rows), "frame"),
        )

    # ------------------------------------------------------------------ the product

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()  # before the question, so that the end is not missed
            if self._over.is_set():
                return
            begun = time.monotonic()
            self._show()
            self._over.wait(max(_SHOW_S, (time.monotonic() - begun) / _SHARE))

    def _show(self) -> None:
        """Bring the product up to date, and count in the frames that it has positions of."""
        with self._lock:
            if self._file is None:
                return
            placed = sorted(self._rows.keys() & self._positions.keys())
            positions = np.array([self._positions[number] for number in placed]).reshape(-1, 2)
            indexes = np.full(len(self._rows), NONE, np.int64)
            indexes[[self._rows[number] for number in placed]] = placed
        if not placed:
            return
        try:
            write_product(self._directory, self._template, np.array(placed), positions, self._bad_pixels)
        except OSError as exc:
            if not self._has_failed_to_show:  # it is tried again, and need not be said again
                self._has_failed_to_show = True
                self._logger.error(
                    'The positions of the frames cannot be written to "%s" at the moment: %s. They are in '
                    '"%s", too, and are counted in when a stream begins there again.',
                    self._directory / PRODUCT_FILE,
                    exc,
                    self._path,
                )
            return
        self._has_failed_to_show = False
        with self._lock:
            try:
                self._put_indexes(indexes)
            except OSError as exc:
                self._fail(exc)

    def _put_indexes(self, indexes: NDArray[np.int64]) -> None:
        if self._file is not None:
            put(self._file, self._offsets[INDEXES], indexes)

    def _write_plan(self) -> None:
        """Begin with a product that holds no position of these frames, but all else that is known."""
        middle = np.array([[float(edge - 1) / 2 for edge in self._template.shape[::-1]]])
        size = self._bad_pixels.shape[-1]
        path, none = self._directory / PRODUCT_FILE, np.array([NONE])
        self._template.write_scan(path, numbers=none, positions=middle, size=size)
