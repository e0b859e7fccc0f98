"""What is asked of a scan by whoever works on one: the arrays that :class:`~.raw.RawData` has checked.

Making a :class:`~.raw.RawData` takes what works on scans, which therefore cannot ask for that class.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Scan(Protocol):
    """The arrays of one scan, or of several on one canvas; see :class:`~.raw.RawData` for what they are."""

    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    diff3d: NDArray[np.float32]
    probeGuess: NDArray[np.complex64]
    scan_index: NDArray[np.int64]
    objectGuess: NDArray[np.complex64] | None
    bad_pixels: NDArray[np.bool_]
    exposures: NDArray[np.float64]

    @property
    def N(self) -> int:
        """Edge of a pattern, pixels."""
        ...

    @property
    def photons_per_pattern(self) -> float:
        """Mean of :attr:`incident_photons`."""
        ...

    @property
    def incident_photons(self) -> NDArray[np.float64]:
        """(M,) photons of each whole pattern for an object of amplitude 1."""
        ...
