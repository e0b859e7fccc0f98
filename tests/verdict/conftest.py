"""A small scan without symmetry, and what a refinement makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from verdict_support import Result, refined

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan


@pytest.fixture(scope="session")
def scan() -> RawData:
    """64 patterns of 64 × 64, row by row; photon noise, and a probe that is alike in no two orientations."""
    x, y = raster_positions(8, 8, 5.0, jitter=0.3, origin=36.0, seed=1)
    down, across = (np.indices((64, 64)) - 31.5) / 10.0
    probe = make_probe(64) * (1 + 0.5 * np.tanh(across)) * np.exp(1j * (down**2 * across + across) / 3)
    return simulate_scan(make_object((108, 108), seed=2), probe, x, y, photons=1e6, seed=3)


@pytest.fixture(scope="session")
def result(scan: RawData) -> Result:
    """The scan refined from a flat object."""
    return refined(scan, epochs=10)
