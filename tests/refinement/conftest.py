"""A small scan with everything that a refinement has to cope with."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan


@pytest.fixture(scope="session")
def scan() -> RawData:
    """169 patterns of 64 × 64, sub-pixel positions, an object of 124 × 120; photon noise."""
    x, y = raster_positions(13, 13, 5.0, jitter=0.3, origin=30.0, seed=1)
    object_ = make_object((124, 120), seed=2)
    return simulate_scan(object_, make_probe(64), x, y, photons=1e6, seed=3)


@pytest.fixture(scope="session")
def flat(scan: RawData) -> np.ndarray:
    """An object that knows nothing."""
    assert scan.objectGuess is not None
    return np.ones_like(scan.objectGuess)
