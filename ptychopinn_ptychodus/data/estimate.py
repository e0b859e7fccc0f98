"""Object, probe and positions that were found, or that are started from, and the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import telling_of_full_disk


@dataclass(frozen=True)
class Estimate:
    """Arrays that a reconstruction leaves in a directory, or that a refinement starts from.

    Attributes
    ----------
    object
        (H, W) complex64.
    probe
        (modes, N, N) complex64, in counts, see :class:`~ptychopinn_ptychodus.backends.base.Prediction`.
    positions
        (M, 2) float64 [x, y], pixels of the object; None where they are those of the scan.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64] | None = None

    def save(self, directory: Path) -> None:
        """Write what there is."""
        directory.mkdir()
        for name, array in vars(self).items():
            if array is not None:
                with telling_of_full_disk(directory):
                    np.save(directory / f"{name}.npy", array)

    @classmethod
    def load(cls, directory: Path) -> Estimate:
        """Inverse of :meth:`save`."""
        arrays = {path.stem: np.load(path, allow_pickle=False) for path in directory.glob("*.npy")}
        return cls(**arrays)
