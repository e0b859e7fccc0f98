"""The object and the probe that a refinement starts from: their checks, and the part that is worked on."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..data.interpolation import require_centres_inside
from ..data.probe import with_modes
from ..data.raw import RawData

Value = TypeVar("Value", bound=np.generic)


class StartError(ValueError):
    """The object or probe to start from is of no use, whatever the scan."""


class Window:
    """The part of an object that patches touch, continued by its edge where they reach beyond it.

    Parameters
    ----------
    shape
        (H, W) of the object.
    raw
        The scan.
    reach
        How far positions may go from where they are, pixels.
    """

    def __init__(self, shape: tuple[int, ...], raw: RawData, reach: float) -> None:
        margin = raw.N / 2.0 + reach + 1.0
        self._rows, self._columns = (_around(where, margin) for where in (raw.ycoords, raw.xcoords))
        self._shape = shape
        self._origin = np.array([self._columns[0], self._rows[0]], dtype=np.float64)

    def cut(self, image: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """The window's part of an object."""
        height, width = self._shape
        rows, columns = np.clip(self._rows, 0, height - 1), np.clip(self._columns, 0, width - 1)
        part: NDArray[np.complex64] = image[np.ix_(rows, columns)]
        return part

    def put_back(self, image: NDArray[Value], canvas: NDArray[Value]) -> NDArray[Value]:
        """A copy of an object, or of what else is on its grid, with its window replaced."""
        height, width = self._shape
        rows = (self._rows >= 0) & (self._rows < height)
        columns = (self._columns >= 0) & (self._columns < width)
        out = image.copy()
        out[np.ix_(self._rows[rows], self._columns[columns])] = canvas[np.ix_(rows, columns)]
        return out

    def inside(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels of the object as pixels of the window."""
        return positions - self._origin


def _around(where: NDArray[np.float64], margin: float) -> NDArray[np.int64]:
    """Pixels of an axis, and as many more as make a Fourier transform quick."""
    first, last = math.floor(where.min() - margin), math.ceil(where.max() + margin)
    return np.arange(first, first + scipy.fft.next_fast_len(last - first + 1), dtype=np.int64)


def checked_probe(probe: NDArray[np.complexfloating], size: int, wanted: int | None) -> NDArray[np.complex64]:
    """The probe as (modes, N, N) complex64 with as many modes as wanted; ``ValueError`` if it is not one."""
    modes = np.asarray(probe)
    if modes.ndim == 2:
        modes = modes[None]
    if modes.ndim != 3 or modes.shape[1:] != (size, size):
        raise ValueError(
            f"The probe has shape {np.shape(probe)}, but the patterns are of {size} × {size}: give (modes, "
            f"{size}, {size})."
        )
    if not (np.isfinite(modes).all() and modes.any()):
        raise StartError("The probe is zero everywhere, or not finite: start from another.")
    return with_modes(modes.astype(np.complex64), wanted or len(modes))


def check_object(start: NDArray[np.complexfloating], raw: RawData) -> None:
    """Raise ``ValueError`` unless the object is finite, of one layer, and under all positions."""
    if start.ndim != 2:
        raise ValueError(f"The object has shape {start.shape}: give one layer, (rows, columns).")
    if not np.isfinite(start).all():
        raise StartError("The object holds values that are not finite: start from another.")
    require_centres_inside(raw.xcoords, raw.ycoords, (start.shape[0], start.shape[1]))
