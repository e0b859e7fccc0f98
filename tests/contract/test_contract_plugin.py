"""The contract suite on this package's own library: with engines that only pretend, and with a real one."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
from ptychopinn_ptychodus.testing import (
    Contract,
    ModelChecks,
    ReconstructionChecks,
    ReconstructorLibraryContract,
    TrainingChecks,
)

FRAMEWORKS = ("torch", "tensorflow", "lightning", "pytorch_lightning", "tensordict", "keras", "mlflow")
FAKE_ENGINE = Path(__file__).parents[1] / "support" / "fake_engine.py"


def _forget_engines() -> None:
    registry.list_engines.cache_clear()
    registry.get_engine.cache_clear()


@pytest.fixture(scope="class")
def fake_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines without a framework; this process, the application and its workers find them by entry point."""
    site = tmp_path_factory.mktemp("site")
    (site / "fake_engine.py").write_text(FAKE_ENGINE.read_text(encoding="utf-8"), encoding="utf-8")
    metadata = site / "fake_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-engine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[ptychopinn_ptychodus.backends]\n"
        "pytorch = fake_engine:FakeEngine\ntensorflow = fake_engine:FakeTensorFlow\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        # at the end: of two engines with one name, the registry takes the one that is found last
        patch.setattr(sys, "path", [*sys.path, str(site)])
        patch.setenv("FAKE_ENGINE", json.dumps({"epoch_seconds": 0.1}))
        _forget_engines()
        yield
    _forget_engines()
    sys.modules.pop("fake_engine", None)


class PluginContract(Contract):
    """What is true of the library with any engine."""

    library = PtychoPINNPluginLibrary
    frameworks = FRAMEWORKS
    entry_point = "PtychoPINN-Plugin"

    def configure(self, settings: SettingsRegistry) -> None:
        """A verdict takes its time, and is no matter of most checks; see :class:`TestWithoutRefinement`."""
        settings["PtychoPINNPluginTraining"].parameters()["Epochs"].set_value(2)
        for name in ("Judge", "Confidence"):
            settings["PtychoPINNPluginExamination"].parameters()[name].set_value(False)


@pytest.mark.usefixtures("fake_engines")
@pytest.mark.skipif(
    importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None,
    reason="needs the installed package: pip install -e . places the file that Ptychodus finds",
)
class TestPINN(PluginContract, ReconstructorLibraryContract):
    """The default reconstructor, with everything."""

    reconstructors = ("PINN",)


@pytest.mark.usefixtures("fake_engines")
class TestSupervised(PluginContract, ReconstructorLibraryContract):
    """It differs from the other one in what it is trained on: Ptychodus need not be started once more."""

    reconstructors = ("Supervised",)
    headless = False


@pytest.mark.usefixtures("fake_engines")
class TestRefinement(PluginContract, ReconstructorLibraryContract):
    """It has no model, and is not trainable."""

    reconstructors = ("Refinement",)
    headless = False

    def configure(self, settings: SettingsRegistry) -> None:
        super().configure(settings)
        settings["PtychoPINNPluginWithoutModel"].parameters()["Epochs"].set_value(3)


@pytest.mark.usefixtures("fake_engines")
class TestWithoutRefinement(PluginContract, ReconstructionChecks):
    """The network's object is the one result; above it is the first of two. It is judged, as by default."""

    reconstructors = ("PINN",)

    def configure(self, settings: SettingsRegistry) -> None:
        settings["PtychoPINNPluginTraining"].parameters()["Epochs"].set_value(2)
        settings["PtychoPINNPluginRefinement"].parameters()["Epochs"].set_value(0)


@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs lightning (extra torch)")
class TestPyTorch(PluginContract, TrainingChecks, ReconstructionChecks, ModelChecks):
    """A real engine, and no more starts of it than it takes to see a model come back from its file."""

    reconstructors = ("PINN",)
    test_training_is_stopped = None  # type: ignore[assignment]  # pytest collects none that is None
    test_stopped_training_leaves_a_usable_model = None  # type: ignore[assignment]  # pytest collects none that is None
    test_reconstruction_is_stopped = None  # type: ignore[assignment]  # pytest collects none that is None
    test_refused_file_leaves_the_earlier_model = None  # type: ignore[assignment]  # pytest collects none that is None

    def configure(self, settings: SettingsRegistry) -> None:
        changes: dict[str, dict[str, object]] = {
            "Model": {"Backend": "pytorch", "NumFiltersScale": 1, "GridSize": 1},
            "Training": {"Epochs": 1, "ProbeModes": 1, "Accelerator": "cpu"},
            "Examination": {"Judge": False, "Confidence": False},
        }
        for group, values in changes.items():
            for name, value in values.items():
                settings[f"PtychoPINNPlugin{group}"].parameters()[name].set_value(value)
