"""What the patterns of a scan say before anything is fitted to them; found out once for a refinement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.examination.frames import sound_frames
from ..data.raw import RawData
from .arrays import Arrays
from .model import ScanModel
from .noise import photon_unit


@dataclass(frozen=True)
class Measured:
    """A scan, the library to work with, and what is known of the patterns.

    Attributes
    ----------
    raw, arrays
        As they are.
    sound
        Numbers of the patterns that count: frames without beam, and flashes, would spoil whatever is a mean.
    per_photon
        Counts of one photon, see :func:`.noise.photon_unit`.
    mean
        (N, N) mean of the sound patterns, as :meth:`.model.ScanModel.mean_counts` has it.
    """

    raw: RawData
    arrays: Arrays
    sound: NDArray[np.int64]
    per_photon: float
    mean: NDArray[np.float64]

    @classmethod
    def of(cls, raw: RawData, arrays: Arrays) -> Measured:
        """What a scan is measured to be."""
        sound = np.flatnonzero(sound_frames(raw))
        per_photon = photon_unit(raw.diff3d, sound, raw.bad_pixels)
        # the metric is no matter of the mean
        mean = ScanModel(raw, arrays, "amplitude").mean_counts(sound)
        return cls(raw, arrays, sound, per_photon, mean)
