"""Small simulated scans for the engines, and the engines themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from engine_support import ENGINES, Bench, require_engine

from ptychopinn_ptychodus.backends.base import Engine
from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.raw import RawData

NEEDED = {
    "test_device.py": "pytorch",
    "test_forward.py": "pytorch",
    "test_module.py": "pytorch",
    "test_network.py": "pytorch",
    "test_orchestration.py": "pytorch",
    "test_several_processes.py": "pytorch",
    "test_replicas.py": "tensorflow",
    "test_training.py": "pytorch",
    "test_tensorflow.py": "tensorflow",
}
"""Modules that are about one engine, and import its framework."""


class _Skipped(pytest.Module):
    """A module that is not imported, because the framework that it needs is missing."""

    reason = ""

    def collect(self) -> NoReturn:
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    name = NEEDED.get(module_path.name)
    problem = None if name is None else get_engine(name).problem()
    if problem is None:
        return None
    module: _Skipped = _Skipped.from_parent(parent, path=module_path)
    module.reason = problem
    return module


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    return require_engine(request.param)


@pytest.fixture
def bench(engine: Engine, scan: RawData, tmp_path: Path) -> Bench:
    return Bench(engine, scan, tmp_path)


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
