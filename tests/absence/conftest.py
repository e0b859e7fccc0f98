"""Three environments (without PyTorch, without TensorFlow, with neither), a scan, and models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from absence_support import Environment, make_environment
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import save_diffraction_data, save_product
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product, ProductMetadata

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.data import simulation

N, PIXEL_M, SHAPE = 64, 2.0e-8, (88, 96)


@pytest.fixture(scope="session", autouse=True)
def everything() -> None:
    """Something can be left out only where it is."""
    if importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None:
        pytest.skip("needs the installed package: pip install -e . places the file that Ptychodus finds")
    for name in ("pytorch", "tensorflow"):
        problem = registry.get_engine(name).problem()
        if problem is not None:
            pytest.skip(problem)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """``environment("pytorch")`` is one without PyTorch; made once."""
    made: dict[tuple[str, ...], Environment] = {}

    def environment(*missing: str) -> Environment:
        if missing not in made:
            made[missing] = make_environment(tmp_path_factory.mktemp("without"), missing)
        return made[missing]

    return environment


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A standard directory: ``diffraction.h5`` and ``product.h5`` of 16 patterns."""
    directory = tmp_path_factory.mktemp("scan")
    x, y = simulation.raster_positions(4, 4, 6.0, jitter=0.3, origin=N / 2 + 3, seed=0)
    probe, object_ = simulation.make_probe(N), simulation.make_object(SHAPE, seed=0)
    raw = simulation.simulate_scan(object_, probe, x, y, photons=1e5, seed=0)
    pixel, center = PixelGeometry(PIXEL_M, PIXEL_M), ObjectCenter(0.0, 0.0)
    positions = [
        ProbePosition(i, (x[i] - SHAPE[1] / 2) * PIXEL_M, (y[i] - SHAPE[0] / 2) * PIXEL_M)
        for i in range(len(raw))
    ]
    product = Product(
        metadata=ProductMetadata(
            name="scan",
            comments="",
            detector_distance_m=1.0,
            photon_energy_eV=8800.0,
            probe_photon_count=1e5,
            exposure_time_s=0.1,
            mass_attenuation_m2_per_kg=0.0,
            tomography_angle_deg=0.0,
        ),
        probe_positions=ProbePositionSequence(positions),
        probes=ProbeSequence(raw.probeGuess[np.newaxis].astype(np.complex64), None, pixel),
        object_=Object(np.ones((1, *SHAPE), np.complex64), pixel, center, []),
        losses=[],
    )
    counts = np.rint(np.square(raw.diff3d)).astype(np.uint16)
    data = AssembledDiffractionData(
        np.arange(len(raw)), counts, PixelGeometry(7.5e-5, 7.5e-5), np.zeros((N, N), bool)
    )
    save_diffraction_data(directory / "diffraction.h5", data)
    save_product(directory / "product.h5", product)
    return directory


@pytest.fixture
def directory(scan: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A directory of its own with the scan and settings for ``Backend``, quick ones."""
    return lambda backend: prepare(tmp_path / backend, scan, backend)


def prepare(path: Path, scan: Path, backend: str) -> Path:
    path.mkdir()
    for file in scan.iterdir():
        (path / file.name).symlink_to(file)
    (path / "settings.ini").write_text(
        "[Processing]\nAlgorithm = ptychopinn-plugin_pinn\n"
        f"[PtychoPINNPluginModel]\nBackend = {backend}\nNumFiltersScale = 1\n"
        "[PtychoPINNPluginTraining]\nEpochs = 1\nProbeModes = 1\nAccelerator = cpu\n"
        "[PtychoPINNPluginInference]\nNumGroups = 16\n"
    )
    return path


@pytest.fixture(scope="session")
def trained(
    environment: Callable[..., Environment], scan: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """``trained("pytorch")``: where that engine has trained, by name, without the other's framework."""
    runs: dict[str, Path] = {}

    def trained(backend: str) -> Path:
        if backend not in runs:
            runs[backend] = prepare(tmp_path_factory.mktemp("trained") / backend, scan, backend)
            other = {"pytorch": "tensorflow", "tensorflow": "pytorch"}[backend]
            done = environment(other).ptychodus("train", runs[backend], runs[backend])
            assert done.returncode == 0, done.stdout + done.stderr
        return runs[backend]

    return trained
