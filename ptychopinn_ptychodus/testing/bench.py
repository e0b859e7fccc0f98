"""The library under test: made anew as often as wanted, and the runs that several checks look at."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ptychodus.api.reconstruct import (
    Reconstructor,
    ReconstructorLibrary,
    TrainableReconstructor,
)
from ptychodus.api.settings import SettingsRegistry

from . import scan
from .declaration import Declaration
from .runs import RecordedRun, record
from .surroundings import contents

MODEL_BASENAME = "model"
"""What ``ptychodus -b reconstruct`` looks for in its input directory, with the reconstructor's extension."""

EXPORTED_BASENAME = "train_data"


def is_trainable(reconstructor: Reconstructor) -> bool:
    """As the window decides on it: Ptychodus' own adapter has an attribute to say so."""
    return isinstance(reconstructor, TrainableReconstructor) and bool(
        getattr(reconstructor, "is_trainable", True)
    )


def patterns_of(file_filter: str) -> list[str]:
    """``"Models (*.ckpt *.pt)"`` -> ``["*.ckpt", "*.pt"]``, as Qt reads a name filter."""
    found = re.fullmatch(r".*\((.*)\)\s*", file_filter, flags=re.DOTALL)
    return found[1].split() if found else []


@dataclass
class Subject:
    """A library as Ptychodus makes it, and one of its reconstructors."""

    library: ReconstructorLibrary
    settings: SettingsRegistry
    reconstructor: Any


class Bench:
    """A library, as often as it is needed."""

    def __init__(self, contract: Declaration, directory: Path | None) -> None:
        self.contract = contract
        self._directory = directory
        self._cases: dict[str, Case] = {}

    def make(
        self, *, developer_mode: bool = False, configure: bool = True
    ) -> tuple[ReconstructorLibrary, SettingsRegistry]:
        """A library in a registry of its own, set up by ``configure``."""
        settings = SettingsRegistry()
        library = self.contract.factory()(settings, developer_mode)
        if configure:
            self.contract.configure(settings)
        return library, settings

    def names(self, *, trainable: bool = False) -> list[str]:
        """Names of the reconstructors that are to be checked."""
        library, _ = self.make()
        wanted = self.contract.reconstructors
        return [
            reconstructor.name
            for reconstructor in library
            if (not wanted or reconstructor.name in wanted) and (not trainable or is_trainable(reconstructor))
        ]

    def case(self, name: str) -> Case:
        """The reconstructor of that name, with what it has been seen to do so far."""
        if name not in self._cases:
            self._cases[name] = Case(self, name, self.new_directory(name))
        return self._cases[name]

    def new_directory(self, name: str) -> Path:
        """An empty directory."""
        assert self._directory is not None
        count = len(list(self._directory.iterdir()))
        safe = re.sub(r"\W", "-", name)
        directory = self._directory / f"{count}-{safe}"
        directory.mkdir()
        return directory


@dataclass
class RecordedTraining:
    """A training, and what it did to its directories."""

    run: RecordedRun
    subject: Subject
    source: Path
    target: Path
    read: tuple[dict[str, str], dict[str, str]] = field(default=({}, {}))
    """Contents of the input directory before and after."""


@dataclass
class RecordedReconstruction:
    """A reconstruction, and its input before and after."""

    run: RecordedRun
    parameters: Any
    before: Any
    after: Any


class Case:
    """One reconstructor of the library; each of its runs is made once, when a check first asks for it."""

    def __init__(self, bench: Bench, name: str, directory: Path) -> None:
        self.bench = bench
        self.contract = bench.contract
        self.name = name
        self._directory = directory

    def new(self, *, configure: bool = True) -> Subject:
        """The reconstructor, in a library of its own."""
        library, settings = self.bench.make(configure=configure)
        for reconstructor in library:
            if reconstructor.name == self.name:
                return Subject(library, settings, reconstructor)
        listed = [reconstructor.name for reconstructor in library]
        pytest.fail(f'The library lists no reconstructor "{self.name}", only {listed}.', pytrace=False)

    def new_directory(self, name: str) -> Path:
        return self.bench.new_directory(f"{self.name}-{name}")

    def reconstruct_input(self) -> Any:
        return scan.reconstruct_input(self.contract.pattern_size)

    # ---- training

    def require_training(self) -> None:
        """Skip what needs a training where there shall be none."""
        if not self.contract.trains:
            pytest.skip("trains = False")

    def fill(self, directory: Path, subject: Subject, *sources: str) -> None:
        """Put the scan into an input directory, in the given ways (see ``training_sources``)."""
        if "standard" in sources:
            scan.write_standard_directory(directory, self.contract.pattern_size)
        if "exported" in sources:
            self.export(directory, subject)

    def export(self, directory: Path, subject: Subject) -> Path:
        """Export training data under the name that a user would choose."""
        patterns = patterns_of(subject.reconstructor.get_training_data_file_filter()) or ["*"]
        path = directory / f"{EXPORTED_BASENAME}{patterns[0].removeprefix('*')}"
        subject.reconstructor.export_training_data(path, self.reconstruct_input())
        return path

    def train(
        self, subject: Subject, source: Path, target: Path, *, stop_after: int | None = None
    ) -> RecordedRun:
        """One training."""
        return self._record(subject, lambda: subject.reconstructor.train(source, target), stop_after)

    def training_directory(self, subject: Subject) -> Path:
        """An input directory with training data; skips where they cannot be made."""
        directory = self.new_directory("training-data")
        try:
            self.fill(directory, subject, self.contract.training_sources[0])
        except Exception as exc:
            pytest.skip(f"the training data could not be exported ({exc}): test_training_data_are_exported")
        return directory

    @functools.cached_property
    def training(self) -> RecordedTraining:
        """A training from its beginning to its end, whatever that was."""
        self.require_training()
        subject = self.new()
        source, target = self.training_directory(subject), self.new_directory("trained")
        before = contents(source)
        run = self.train(subject, source, target)
        return RecordedTraining(run, subject, source, target, (before, contents(source)))

    @property
    def trained(self) -> RecordedTraining:
        """The training, if it was one."""
        training = self.training
        if training.run.problem is not None:
            pytest.skip(f"the training failed ({training.run.problem}): see test_training_completes")
        return training

    @functools.cached_property
    def training_without_data(self) -> RecordedTraining:
        """A training on an empty directory."""
        self.require_training()
        subject = self.new()
        source, target = self.new_directory("no-data"), self.new_directory("no-data-trained")
        return RecordedTraining(self.train(subject, source, target), subject, source, target)

    @functools.cached_property
    def stopped(self) -> RecordedTraining:
        """A training that is stopped after its first output, with an earlier model loaded and in its way."""
        model = self.model
        subject = self.new()
        source, target = self.training_directory(subject), self.new_directory("stopped")
        earlier = target / model.name
        shutil.copyfile(model, earlier)
        subject.reconstructor.load_model_from_file(earlier)
        return RecordedTraining(self.train(subject, source, target, stop_after=1), subject, source, target)

    def model_path(self, subject: Subject, directory: Path) -> Path:
        """Where Ptychodus looks for a model."""
        return directory / f"{MODEL_BASENAME}{subject.reconstructor.get_model_file_extension()}"

    # ---- models

    @functools.cached_property
    def model(self) -> Path:
        """A model file, in a directory that nothing else is in."""
        if not self.contract.trains:
            if self.contract.model is None:
                pytest.skip("trains = False, and no model is given")
            return Path(self.contract.model)
        training = self.trained
        found = self.model_path(training.subject, training.target)
        if not found.is_file():
            pytest.skip("the training left no model: see test_training_leaves_a_model_file")
        copy = self.new_directory("model") / found.name
        shutil.copyfile(found, copy)
        return copy

    def with_model(self) -> Subject:
        """The reconstructor with a model loaded, if it is one that has models."""
        subject = self.new()
        if is_trainable(subject.reconstructor):
            path = self.model
            try:
                subject.reconstructor.load_model_from_file(path)
            except Exception as exc:
                pytest.skip(f"the model does not open ({exc}): see test_saved_model_gives_the_same_object")
        return subject

    # ---- reconstruction

    def reconstruct(
        self, subject: Subject, parameters: Any | None = None, *, stop_after: int | None = None
    ) -> RecordedRun:
        """One reconstruction."""
        given = self.reconstruct_input() if parameters is None else parameters
        return self._record(subject, lambda: subject.reconstructor.reconstruct(given), stop_after)

    def _record(
        self, subject: Subject, make: Callable[[], Iterator[Any]], stop_after: int | None
    ) -> RecordedRun:
        return record(
            make,
            subject.reconstructor,
            subject.library.get_logger(),
            limit_s=self.contract.run_limit_s,
            stop_after=stop_after,
        )

    @functools.cached_property
    def reconstruction_without_a_model(self) -> tuple[RecordedRun, Subject]:
        """What becomes of a reconstruction where no model is loaded."""
        subject = self.new()
        if subject.reconstructor.is_model_loaded():
            pytest.skip("it has a model from the start")
        return self.reconstruct(subject), subject

    @functools.cached_property
    def reconstruction(self) -> RecordedReconstruction:
        """A reconstruction from its beginning to its end, whatever that was."""
        subject = self.with_model()
        parameters = self.reconstruct_input()
        before = scan.fingerprint(parameters)
        run = self.reconstruct(subject, parameters)
        return RecordedReconstruction(run, self.reconstruct_input(), before, scan.fingerprint(parameters))

    @property
    def reconstructed(self) -> RecordedReconstruction:
        """The reconstruction, if it was one."""
        reconstruction = self.reconstruction
        failure = reconstruction.run.failure
        if failure is not None:
            pytest.skip(f"the reconstruction failed ({failure}): see test_reconstruction_completes")
        return reconstruction


def products(run: RecordedRun) -> Iterator[Any]:
    """Products of the outputs of a reconstruction."""
    for output in run.outputs:
        yield output.product
