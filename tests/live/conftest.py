"""A scan that arrives frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from plugin_fixtures import fake_site, wish
from refinement_support import made_scan

from ptychopinn_ptychodus.data.raw import RawData

__all__ = ["fake_site", "wish"]


@pytest.fixture(scope="session")
def scan() -> RawData:
    return made_scan(photons=1e6, seed=1)


@pytest.fixture(scope="session")
def counts(scan: RawData) -> np.ndarray:
    """(M, 64, 64) uint16, as a detector gives them."""
    return np.rint(scan.diff3d.astype(np.float64) ** 2).astype(np.uint16)


@pytest.fixture(scope="session")
def positions(scan: RawData) -> np.ndarray:
    """(M, 2) [x, y]."""
    return np.stack((scan.xcoords, scan.ycoords), -1)
