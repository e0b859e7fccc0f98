"""A small simulated scan, made once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.raw import RawData

N = 64


@pytest.fixture(scope="session")
def obj() -> np.ndarray:
    return simulation.make_object((180, 200), seed=3)


@pytest.fixture(scope="session")
def probe() -> np.ndarray:
    return simulation.make_probe(N, modes=2)


@pytest.fixture(scope="session")
def positions() -> tuple[np.ndarray, np.ndarray]:
    return simulation.raster_positions(16, 14, 8.0, jitter=0.3, origin=36.0, seed=1)


@pytest.fixture(scope="session")
def scan(obj: np.ndarray, probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]) -> RawData:
    return simulation.simulate_scan(obj, probe, *positions, photons=1e5, seed=0)


@pytest.fixture
def fields() -> dict[str, Any]:
    """Constructor arguments of a valid scan of five patterns, counts."""
    rng = np.random.default_rng(0)
    return {
        "xcoords": np.linspace(40.0, 50.0, 5),
        "ycoords": np.linspace(42.0, 47.0, 5),
        "diff3d": rng.poisson(20.0, (5, N, N)).astype(np.uint16),
        "probeGuess": simulation.make_probe(N),
    }
