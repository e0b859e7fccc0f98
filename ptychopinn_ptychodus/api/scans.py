"""Scans as the functions of the Python interface are given them, and the canvas of their object."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.examination import ExaminationConfig, Finding, Report
from ..data.raw import RawData
from ..ptychodus_io.names import LIBRARY
from ..ptychodus_io.several import each_scan, left_out

logger = logging.getLogger(LIBRARY)

Scan = RawData | str | Path
"""A scan, the NPZ or HDF5 file that :meth:`.RawData.from_file` reads it from, or a standard directory of
Ptychodus, with ``diffraction.h5`` and ``product.h5``."""


def read_scan(scan: Scan, examination: ExaminationConfig | None) -> RawData:
    """The scan itself, read and examined if it is a file."""
    if isinstance(scan, RawData):
        return scan
    if Path(scan).is_dir():
        # imported here: whoever has arrays needs nothing of Ptychodus
        from ..ptychodus_io.ingest import read_standard_directory

        return read_standard_directory(Path(scan), examination)
    return RawData.from_file(scan, examination)


def read_scans(
    given: Scan | Sequence[Scan], examination: ExaminationConfig | None, *, skip_damaged: bool
) -> tuple[dict[str, RawData], Report]:
    """Scans by name, and findings on those that are left out; errors are those of :func:`.each_scan`."""
    several = [given] if isinstance(given, (RawData, str, Path)) else list(given)
    if not several:
        raise ValueError("There is no scan to learn from: give at least one.")
    paths = [str(each) for each in several if not isinstance(each, RawData)]
    short = len({Path(path).name for path in paths}) == len(paths)
    make = {}
    for number, each in enumerate(several, start=1):
        path = "" if isinstance(each, RawData) else str(each)
        name = (Path(path).name if short else path) if path else f"scan {number}"
        make[name] = partial(read_scan, each, examination)
    findings: list[Finding] = []

    def note(name: str, exc: Exception) -> None:
        findings.append(left_out(name, exc))

    scans = each_scan(make, on_damaged=note if skip_damaged else None)
    report = Report(tuple(findings))
    report.log(logger)
    return scans, report


@dataclass(frozen=True)
class Canvas:
    """A scan whose positions are pixels of an object of ``shape``, and where that object lies."""

    scan: RawData
    shape: tuple[int, int]
    origin: tuple[float, float]


def canvas_of(raw: RawData, shape: tuple[int, int] | None) -> Canvas:
    """The scan on an object of ``shape``, or else of its own object's, or on what just holds it.

    Raises
    ------
    ValueError
        If a pattern lies beyond the object.
    """
    if shape is None and raw.objectGuess is not None:
        shape = (raw.objectGuess.shape[0], raw.objectGuess.shape[1])
    positions = np.stack((raw.xcoords, raw.ycoords), -1)
    if shape is not None:
        raw.require_inside(shape)
        return canvas_at(raw, positions, (0.0, 0.0), shape)
    origin = np.floor(positions.min(0)) - raw.N // 2
    width, height = np.ceil(positions.max(0) - origin).astype(int) + raw.N // 2 + 1
    return canvas_at(raw, positions, (float(origin[0]), float(origin[1])), (int(height), int(width)))


def canvas_at(
    raw: RawData, positions: NDArray[np.float64], origin: tuple[float, float], shape: tuple[int, ...]
) -> Canvas:
    """The scan with other ``positions``, (M, 2), on an object whose first pixel is at ``origin``."""
    scan = raw.select(slice(None))
    scan.objectGuess = None
    scan.xcoords, scan.ycoords = (positions - np.asarray(origin)).T.copy()
    return Canvas(scan, (shape[0], shape[1]), origin)
