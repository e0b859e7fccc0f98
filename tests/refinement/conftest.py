"""A small scan with everything that a refinement has to cope with."""

from __future__ import annotations

import numpy as np
import pytest
from refinement_support import made_scan

from ptychopinn_ptychodus.data.raw import RawData


@pytest.fixture(scope="session")
def scan() -> RawData:
    """Bright enough that noise hardly matters."""
    return made_scan(photons=1e6, seed=1)


@pytest.fixture(scope="session")
def flat(scan: RawData) -> np.ndarray:
    """An object that knows nothing."""
    assert scan.objectGuess is not None
    return np.ones_like(scan.objectGuess)
