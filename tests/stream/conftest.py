"""A small scan as a standard directory, and its frames and positions as a beamline would have them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from stream_support import Scan

from ptychopinn_ptychodus.cli import demo


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    directory = tmp_path_factory.mktemp("scan")
    demo.write_standard_directory(demo.simulate(6), directory)
    with h5py.File(directory / "diffraction.h5") as file:
        patterns = np.asarray(file["patterns"][()])
    with h5py.File(directory / "product.h5") as file:
        axes = [np.asarray(file[f"probe_position_{axis}_m"][()]) for axis in "xy"]
    return Scan(directory, patterns, np.stack(axes, -1))
