"""Three environments (without PyTorch, without TensorFlow, with neither), a scan, and models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from absence_support import Environment, make_environment
from shared_support import made_once

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.cli.demo import simulate, write_standard_directory


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
    write_standard_directory(simulate(4), directory)
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
        # the network that is traced soonest: which one it is, is no matter of these tests
        f"[PtychoPINNPluginModel]\nBackend = {backend}\nArchitecture = cnn\n"
        "GridSize = 1\nNumFiltersScale = 1\n"
        "[PtychoPINNPluginTraining]\nEpochs = 1\nProbeModes = 1\nAccelerator = cpu\n"
        "[PtychoPINNPluginInference]\nNumGroups = 16\n"
        "[PtychoPINNPluginRefinement]\nEpochs = 0\n"  # what is compared is what the engines made
        "[PtychoPINNPluginExamination]\nJudge = False\nConfidence = False\n"
    )
    return path


@pytest.fixture(scope="session")
def trained(
    environment: Callable[..., Environment], scan: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """``trained("pytorch")``: where that engine has trained, by name, without the other's framework.

    What it reconstructs there, in the same environment, is in ``out``.
    """

    def trained(backend: str) -> Path:
        def make(directory: Path) -> None:
            run = prepare(directory / backend, scan, backend)
            other = {"pytorch": "tensorflow", "tensorflow": "pytorch"}[backend]
            for action, target in (("train", run), ("reconstruct", run / "out")):
                done = environment(other).ptychodus(action, run, target)
                assert done.returncode == 0, done.stdout + done.stderr

        return made_once(tmp_path_factory, f"absence-{backend}", make) / backend

    return trained
