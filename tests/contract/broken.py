"""Libraries with one thing wrong each, and the check that is to find it.

Not collected with the other tests: ``test_contract_broken.py`` runs this file and looks at what failed.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from minimal import Iterator3, Learner, MinimalLibrary, with_object
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import ReconstructOutput, TrainOutput
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.testing import ReconstructorLibraryContract, surroundings

surroundings.GRACE_S = 1.0  # what is left running here does not end by itself for eight seconds

LIBRARIES: dict[str, tuple[str, type[MinimalLibrary], dict[str, Any]]] = {}
"""Name of the fault: the check that finds it, the library, what else the contract says."""


def learner(check: str, **contract: Any) -> Callable[[type[Learner]], type[Learner]]:
    """Make a library of a broken :class:`Learner`."""

    def register(cls: type[Learner]) -> type[Learner]:
        broken = type(cls.__name__, (MinimalLibrary,), {"learner": cls})
        LIBRARIES[cls.__name__] = (check, broken, {"reconstructors": ("Learner",), **contract})
        return cls

    return register


def library(check: str, **contract: Any) -> Callable[[type[MinimalLibrary]], type[MinimalLibrary]]:
    """Register a broken library."""

    def register(cls: type[MinimalLibrary]) -> type[MinimalLibrary]:
        LIBRARIES[cls.__name__] = (check, cls, contract)
        return cls

    return register


# ---------------------------------------------------------------------- names, listing, settings


@library("test_library_is_made")
class CannotBeMade(MinimalLibrary):
    def __init__(self, settings_registry: SettingsRegistry, is_developer_mode_enabled: bool) -> None:
        raise RuntimeError("as the test asked")


@library("test_library_is_made")
class CannotBeMadeForDevelopers(MinimalLibrary):
    def __init__(self, settings_registry: SettingsRegistry, is_developer_mode_enabled: bool) -> None:
        if is_developer_mode_enabled:
            raise RuntimeError("as the test asked")
        super().__init__(settings_registry, is_developer_mode_enabled)


@library("test_entry_point_leads_to_the_library", entry_point="Never-Registered")
class IsNotRegistered(MinimalLibrary):
    pass


@library("test_library_name_makes_a_key")
class HasAnUnderscore(MinimalLibrary):
    title = "Mini_mal"


@library("test_library_name_makes_a_key")
class HasABlank(MinimalLibrary):
    title = " Minimal"


@library("test_library_name_is_not_taken")
class TakesAName(MinimalLibrary):
    title = "ptychopinn-TORCH"


@library("test_reconstructor_names_are_unique")
class SharesAName(MinimalLibrary):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reconstructors.append(Learner("LEARNER", self.settings, self))


@library("test_library_can_be_listed_again")
class ListsOthersEachTime(MinimalLibrary):
    def __iter__(self) -> Iterator[Any]:
        return iter([Learner("Learner", self.settings, self), Iterator3()])


@library("test_log_is_the_librarys_own")
class LogsToTheRoot(MinimalLibrary):
    def get_logger(self) -> logging.Logger:
        return logging.getLogger()


@library("test_settings_groups_are_not_taken", group="Globus")
class TakesAGroup(MinimalLibrary):
    group = "Globus"


@library("test_settings_survive_a_file")
class HasTwoSettingsOfOneName(MinimalLibrary):
    def __init__(self, settings_registry: SettingsRegistry, is_developer_mode_enabled: bool) -> None:
        super().__init__(settings_registry, is_developer_mode_enabled)
        settings_registry["Minimal"].create_integer_parameter("epochs", 7, minimum=0)


# ---------------------------------------------------------------------- queries


@learner("test_queries_answer")
class DoesNotKnowWhetherAModelIsLoaded(Learner):
    def is_model_loaded(self) -> Any:
        return 1 if self.model is not None else 0


@learner("test_queries_survive_any_setting")
class FilterRaisesWithAStrangeSetting(Learner):
    def get_model_file_filter(self) -> str:
        return {"sgd": "Minimal Models (*.npy)"}[self.settings.optimiser.get_value()]


@learner("test_progress_goal_is_positive")
class HasNoGoalByDefault(Learner):
    def get_progress_goal(self) -> int:
        epochs = self.settings.epochs.get_value()
        return 0 if epochs == 3 else epochs


@learner("test_model_extension_starts_with_a_dot")
class ExtensionHasNoDot(Learner):
    def get_model_file_extension(self) -> str:
        return "-x.npy"


@learner("test_model_filter_shows_the_extension")
class FilterHidesItsModels(Learner):
    def get_model_file_filter(self) -> str:
        return "Minimal Models (*.npz *.zip)"


@learner("test_training_data_filter_has_a_pattern", training_sources=("standard",))
class FilterHasNoPattern(Learner):
    def get_training_data_file_filter(self) -> str:
        return "*.npz"

    def export_training_data(self, file_path: Path, parameters: Any) -> None:
        super().export_training_data(file_path.with_name("x.npz"), parameters)
        file_path.with_name("x.npz").rename(file_path)


# ---------------------------------------------------------------------- training


@learner("test_training_data_are_exported", training_sources=("standard",))
class ExportsToAnotherName(Learner):
    def export_training_data(self, file_path: Path, parameters: Any) -> None:
        super().export_training_data(file_path.with_name("patterns.npz"), parameters)


@learner("test_training_completes")
class TrainsInTheMainThreadOnly(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        import signal

        yield from super().train(input_path, output_path)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # ValueError in any other thread


@learner("test_training_completes", run_limit_s=3.0)
class TrainsForEver(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        for index, output in enumerate(super().train(input_path, output_path)):
            yield output
            if index == 1:
                time.sleep(10)


@learner("test_training_yields_losses")
class HasNoLosses(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        for output in super().train(input_path, output_path):
            yield TrainOutput(progress=output.progress)


@learner("test_training_yields_losses")
class LosesItself(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        for output in super().train(input_path, output_path):
            yield TrainOutput([LossValue(1, float("nan"))], [], output.progress)


@learner("test_training_progress")
class NeverArrives(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        for output in super().train(input_path, output_path):
            yield TrainOutput(output.training_loss, [], output.progress - 1)


@learner("test_training_progress")
class CountsDown(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        for output in super().train(input_path, output_path):
            yield TrainOutput(output.training_loss, [], self.get_progress_goal() - output.progress)


@learner("test_training_goal_stays")
class ExtendsItsGoal(Learner):
    _more = 0

    def get_progress_goal(self) -> int:
        return super().get_progress_goal() + self._more

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        outputs = list(super().train(input_path, output_path))
        yield from outputs
        self._more = 1
        yield TrainOutput(outputs[-1].training_loss, [], self.get_progress_goal())
        self._more = 0


@learner("test_training_is_never_silent_for_long", silence_limit_s=0.5)
class IsSilent(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        for output in super().train(input_path, output_path):
            yield output
            time.sleep(0.7)


@learner("test_training_leaves_a_model_file")
class LeavesNoModelFile(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        with tempfile.TemporaryDirectory() as elsewhere:
            yield from super().train(input_path, Path(elsewhere))


@learner("test_trained_model_is_loaded")
class ForgetsWhatItTrained(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        before = self.model
        yield from super().train(input_path, output_path)
        self.model = before


@learner("test_training_leaves_no_processes")
class LeavesAProcess(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        outputs = super().train(input_path, output_path)
        yield from outputs
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8)"], start_new_session=True)


@learner("test_training_writes_to_its_output_only")
class WritesToTheWorkingDirectory(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        yield from super().train(input_path, output_path)
        Path("history.csv").write_text("epoch,loss\n")


@learner("test_training_writes_to_its_output_only")
class WritesToItsInput(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        yield from super().train(input_path, output_path)
        (input_path / "cache.bin").write_bytes(b"1")


@learner("test_training_writes_to_its_output_only")
class LeavesScratch(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        yield from super().train(input_path, output_path)
        (Path(tempfile.mkdtemp()) / "scratch").touch()


@learner("test_training_without_data_raises")
class TrainsOnNothing(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        if any(input_path.iterdir()):
            yield from super().train(input_path, output_path)


@learner("test_training_without_data_raises")
class DoesNotSayWhereItLooked(Learner):
    def read(self, directory: Path) -> Any:
        try:
            return super().read(directory)
        except FileNotFoundError:
            raise FileNotFoundError("no data") from None


@learner("test_training_is_stopped")
class LeavesAProcessWhenStopped(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        try:
            yield from super().train(input_path, output_path)
        except GeneratorExit:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8)"])
            raise


@learner("test_training_is_stopped", stop_limit_s=2.0)
class EndsLate(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        try:
            yield from super().train(input_path, output_path)
        except GeneratorExit:
            time.sleep(3)
            raise


@learner("test_training_is_stopped")
class LeavesScratchWhenStopped(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        try:
            yield from super().train(input_path, output_path)
        except GeneratorExit:
            (Path(tempfile.mkdtemp()) / "scratch").touch()
            raise


@learner("test_stopped_training_leaves_a_usable_model")
class LosesTheModelWhenStopped(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        self.model = None
        yield from super().train(input_path, output_path)


@learner("test_stopped_training_leaves_a_usable_model")
class LeavesHalfAModelWhenStopped(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        if self.model is not None:
            (output_path / "model.npy").write_bytes(b"\x93NUMPY")
        yield from super().train(input_path, output_path)


# ---------------------------------------------------------------------- reconstruction


def changed(check: str, change: Callable[[Product], Product], name: str) -> None:
    """Register a learner whose product is another."""

    def reconstruct(self: Learner, parameters: Any) -> Iterator[ReconstructOutput]:
        for output in Learner.reconstruct(self, parameters):
            yield ReconstructOutput(change(output.product), output.progress)

    learner(check)(type(name, (Learner,), {"reconstruct": reconstruct}))


def _other_object(product: Product, array: Any = None, pixel: Any = None, center: Any = None) -> Product:
    before = product.object_
    array = before.get_array() if array is None else array
    pixel, center = pixel or before.get_pixel_geometry(), center or before.get_center()
    return Product(
        product.metadata,
        product.probe_positions,
        product.probes,
        Object(array, pixel, center, list(before.layer_spacing_m)),
        product.losses,
    )


def _nan(product: Product) -> Product:
    array = product.object_.get_array().copy()
    array[0, 0, 0] = np.nan
    return with_object(product, array)


GRID = "test_object_is_on_the_grid_of_the_input"
changed(GRID, lambda p: _other_object(p, p.object_.get_array().swapaxes(1, 2)), "ExchangesRowsAndColumns")
changed(GRID, lambda p: _other_object(p, p.object_.get_array()[:, 1:]), "LosesARow")
changed(GRID, lambda p: _other_object(p, pixel=PixelGeometry(1e-8, 1e-8)), "HasItsOwnPixels")
changed(GRID, lambda p: _other_object(p, center=ObjectCenter(0.0, 0.0)), "DropsTheCentre")
VALUES = "test_product_holds_complex_numbers"
changed(VALUES, _nan, "HasHoles")
WRITTEN = "test_product_is_written_and_read"
changed(WRITTEN, lambda p: dataclasses.replace(p, losses=[0.5]), "HasLossesOfItsOwn")  # type: ignore[list-item]


@learner("test_reconstruction_completes")
class YieldsNothing(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        list(super().reconstruct(parameters))
        yield from ()


@learner("test_reconstruction_progress")
class ReconstructsToNoGoal(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        for output in super().reconstruct(parameters):
            yield ReconstructOutput(output.product)


@learner("test_reconstruction_progress")
class GoesTooFar(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        for output in super().reconstruct(parameters):
            yield ReconstructOutput(output.product, output.progress + 1)


@learner("test_reconstruction_goal_stays")
class CountsPositions(Learner):
    _positions = 0

    def get_progress_goal(self) -> int:
        return self._positions or super().get_progress_goal()

    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        for output in super().reconstruct(parameters):
            self._positions = len(parameters.product.probe_positions)
            yield ReconstructOutput(output.product, self._positions)


@learner("test_input_is_not_changed")
class ScalesItsInput(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        yield from super().reconstruct(parameters)
        parameters.product.probes.get_array()[:] *= 2


@learner("test_reconstruction_leaves_nothing_behind")
class LeavesScratchOfReconstruction(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        yield from super().reconstruct(parameters)
        (Path(tempfile.mkdtemp()) / "patches.npy").touch()


@learner("test_reconstruction_is_stopped")
class LeavesAProcessWhenReconstructionIsStopped(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        try:
            yield from super().reconstruct(parameters)
        except GeneratorExit:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8)"])
            raise


@learner("test_reconstruction_is_stopped")
class LeavesScratchWhenReconstructionIsStopped(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        try:
            yield from super().reconstruct(parameters)
        except GeneratorExit:
            (Path(tempfile.mkdtemp()) / "patches.npy").touch()
            raise


@learner("test_reconstruction_without_a_model_raises")
class ReconstructsWithoutAModel(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        if self.model is None:
            yield ReconstructOutput(parameters.product, self.get_progress_goal())
        else:
            yield from super().reconstruct(parameters)


@learner("test_reconstruction_without_a_model_raises")
class SaysNothingOfTheMissingModel(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        if self.model is not None:
            yield from super().reconstruct(parameters)


# ---------------------------------------------------------------------- models


@learner("test_saved_model_gives_the_same_object")
class SavesAnotherModel(Learner):
    def save_model(self, file_path: Path) -> None:
        super().save_model(file_path)
        if file_path.parent.name != "trained" and "saved" in str(file_path.parent):
            np.save(file_path, 0.5)


@learner("test_saved_model_gives_the_same_object")
class SavesToAnotherName(Learner):
    def save_model(self, file_path: Path) -> None:
        super().save_model(file_path)
        if "saved" in str(file_path.parent):
            file_path.rename(file_path.with_suffix(".npy.npy"))


@learner("test_nothing_is_saved_without_a_model")
class SavesNothing(Learner):
    def save_model(self, file_path: Path) -> None:
        if self.model is not None:
            super().save_model(file_path)


@learner("test_wrong_file_is_refused")
class TakesAnyFile(Learner):
    def load_model_from_file(self, file_path: Path) -> None:
        try:
            super().load_model_from_file(file_path)
        except ValueError:
            self.logger.warning("This may not be a model.")


@learner("test_wrong_file_is_refused")
class DoesNotNameTheFile(Learner):
    def load_model_from_file(self, file_path: Path) -> None:
        try:
            super().load_model_from_file(file_path)
        except ValueError:
            raise ValueError("not a model") from None


@learner("test_refused_file_leaves_the_earlier_model")
class LetsGoTooSoon(Learner):
    def load_model_from_file(self, file_path: Path) -> None:
        self.model = None
        super().load_model_from_file(file_path)


@learner("test_errors_reach_the_log")
class LogsElsewhere(Learner):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.logger = logging.getLogger(__name__)


# ---------------------------------------------------------------------- headless: these start Ptychodus


@library("test_application_imports_no_framework", headless=True, frameworks=("this",))
class ImportsAFramework(MinimalLibrary):
    def __init__(self, *arguments: Any) -> None:
        with contextlib.redirect_stdout(None):
            import this  # noqa: F401 (nothing else imports it)

        super().__init__(*arguments)


@learner("test_headless_reconstruction_without_a_model_fails", headless=True)
class EndsWithSuccess(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        if self.model is not None:
            yield from super().reconstruct(parameters)


def in_the_application() -> bool:
    """Rather than in the process that makes the checks."""
    return "ptychodus.model.core" in sys.modules


@library("test_application_imports_no_framework", headless=True)
class CannotSayWhatItImported(MinimalLibrary):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if in_the_application():
            atexit.register(os._exit, 0)


@library("test_application_lists_the_reconstructors", headless=True)
class FailsInTheApplication(MinimalLibrary):
    def __init__(self, *arguments: Any) -> None:
        if in_the_application():
            raise RuntimeError("as the test asked")
        super().__init__(*arguments)


@learner("test_headless_training_succeeds", headless=True)
class DoesNotTrainHeadless(Learner):
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        if in_the_application():
            raise RuntimeError("as the test asked")
        yield from super().train(input_path, output_path)


@learner("test_headless_reconstruction_succeeds", headless=True)
class DoesNotReconstructHeadless(Learner):
    def reconstruct(self, parameters: Any) -> Iterator[ReconstructOutput]:
        outputs = super().reconstruct(parameters)
        yield from () if in_the_application() else outputs


@library("test_headless_run_without_input_fails", headless=True)
class HidesTheExitCode(MinimalLibrary):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if in_the_application():
            atexit.register(os._exit, 0)


# ---------------------------------------------------------------------- what pytest collects


class _Contract(ReconstructorLibraryContract):
    headless = False
    group = "Minimal"

    def configure(self, settings: SettingsRegistry) -> None:
        settings[self.group].parameters()["Epochs"].set_value(2)


for fault, (_, broken, attributes) in LIBRARIES.items():
    broken.__module__, broken.__qualname__ = __name__, f"{fault}Library"
    globals()[f"{fault}Library"] = broken
    globals()[f"Test{fault}"] = type(f"Test{fault}", (_Contract,), {"library": broken, **attributes})
