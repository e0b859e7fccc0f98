"""Small simulated scans for the engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.raw import RawData

pytest.importorskip("lightning", reason="the Lightning engine needs the extra 'torch'")


@pytest.fixture(scope="session")
def make_scan() -> Callable[..., RawData]:
    def make(
        count: int = 6, n: int = 64, step: float = 6.0, modes: int = 1, photons: float = 1e6, seed: int = 0
    ) -> RawData:
        shape = (n + int(step * count) + 8,) * 2
        x, y = simulation.raster_positions(count, count, step, jitter=0.3, origin=n / 2 + 3, seed=seed)
        probe = simulation.make_probe(n, modes=modes)
        object_ = simulation.make_object(shape, seed=seed)
        return simulation.simulate_scan(object_, probe, x, y, photons=photons, seed=seed)

    return make


@pytest.fixture(scope="session")
def scan(make_scan: Callable[..., RawData]) -> RawData:
    """36 patterns of 64 × 64 with the true object and probe."""
    return make_scan()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)
