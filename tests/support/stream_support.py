"""A small scan as a beamline would have it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Scan:
    """Frames are numbered from 1, as detectors do."""

    directory: Path
    patterns: np.ndarray  # (M, 64, 64)
    positions_m: np.ndarray  # (M, 2)

    def __len__(self) -> int:
        return len(self.patterns)
