"""``ptychodus -b train`` and ``ptychodus -b reconstruct``: exit codes, files, and what is imported."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from .. import scan
from ..application import Application, ProcessReport, stock
from ..bench import MODEL_BASENAME, Bench, Case, is_trainable
from ..contract import Contract
from ..surroundings import contents

SUCCESS, FAILURE, USAGE = 0, 1, 2

# The application without a window runs where no display and no Qt is.
_QT = ("PyQt5", "PyQt6", "PySide2", "PySide6")

Request = pytest.FixtureRequest


@dataclass(frozen=True)
class _Batch:
    """A headless run, and where it wrote to."""

    report: ProcessReport
    target: Path


_START = pytest.StashKey[ProcessReport]()
_RUNS = pytest.StashKey[dict[tuple[str, str], _Batch]]()


class HeadlessChecks(Contract):
    """The stock application in processes of its own, with the library in it."""

    @pytest.fixture
    def application(self, bench: Bench) -> Application:
        """Ptychodus with the library."""
        if not self.headless:
            pytest.skip("headless = False")
        library, _ = bench.make()
        directory = bench.new_directory("application")
        return Application(
            library, self.factory(), directory, built_in=self.built_in, limit_s=self.run_limit_s
        )

    def test_application_lists_the_reconstructors(
        self, bench: Bench, application: Application, request: Request
    ) -> None:
        report = self._start(application, request)
        assert report.returncode == SUCCESS, f"With the library, Ptychodus does not start:\n{report.output}"
        wanted = {_key(bench, name) for name in bench.names()}
        listed = set(report.noted.get("keys", ()))
        assert wanted <= listed, (
            f"Ptychodus does not offer {sorted(wanted - listed)}, and silently runs another algorithm where "
            f"a settings file names them. It offers {sorted(listed)}, and it said:\n{report.output}\n"
            "Ptychodus 1.7 reads no entry points itself: a package that has it do so must be installed, such "
            "as ptychopinn-ptychodus."
        )

    def test_headless_training_succeeds(
        self, trainable: Case, application: Application, request: Request
    ) -> None:
        run = self._train(trainable, application, request)
        assert run.report.returncode == SUCCESS, _ended("train", run.report, SUCCESS)
        name = self._model_name(trainable)
        assert (run.target / name).is_file(), (
            f'"ptychodus -b train" ended with exit code 0 and left {sorted(contents(run.target))}: "{name}" '
            'is what "ptychodus -b reconstruct" looks for, and nothing else than train() can write it.'
        )

    def test_headless_reconstruction_succeeds(
        self, case: Case, application: Application, request: Request
    ) -> None:
        run = self._reconstruct(case, application, request)
        assert run.report.returncode == SUCCESS, _ended("reconstruct", run.report, SUCCESS)
        assert list(run.target.glob("product.*.h5")), (
            f'"ptychodus -b reconstruct" ended with exit code 0 and left {sorted(contents(run.target))}, no '
            "product: a ReconstructOutput that is yielded becomes a file, and nothing else does."
        )

    def test_application_imports_no_framework(
        self, case: Case, application: Application, request: Request
    ) -> None:
        self._assert_no_framework(self._start(application, request), "started")
        if self.trains and is_trainable(case.new().reconstructor):
            self._assert_no_framework(self._train(case, application, request).report, "trained")
        self._assert_no_framework(self._reconstruct(case, application, request).report, "reconstructed")

    def test_headless_reconstruction_without_a_model_fails(
        self, trainable: Case, application: Application
    ) -> None:
        if trainable.new().reconstructor.is_model_loaded():
            pytest.skip("it has a model from the start")
        target = trainable.new_directory("headless-no-model")
        report = application.batch("reconstruct", self._directory(trainable), target)
        assert report.returncode == FAILURE, _ended("reconstruct, without a model,", report, FAILURE)
        assert not contents(target), (
            f"A reconstruction without a model has left {sorted(contents(target))}, which scripts take for "
            "its result."
        )

    def test_headless_run_without_input_fails(self, bench: Bench, application: Application) -> None:
        source, target = bench.new_directory("headless-empty"), bench.new_directory("headless-none")
        for name in bench.names()[:1]:  # Ptychodus says so by itself, unless a library keeps it from ending
            self._write_settings(bench.case(name), source)
        report = application.batch("reconstruct", source, target)
        assert report.returncode == USAGE, _ended("reconstruct, on an empty directory,", report, USAGE)

    # ---- helpers

    def _directory(self, case: Case) -> Path:
        """An input directory: the scan, and settings that select the reconstructor."""
        directory = case.new_directory("headless")
        scan.write_standard_directory(directory, self.pattern_size)
        self._write_settings(case, directory)
        return directory

    @staticmethod
    def _write_settings(case: Case, directory: Path) -> None:
        path = directory / "settings.ini"
        case.new().settings.save_settings(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n[Processing]\nAlgorithm = {_key(case.bench, case.name)}\n")

    def _assert_no_framework(self, report: ProcessReport, when: str) -> None:
        assert report.modules, (
            f"The application {when}, and its process did not end as Python does (exit code "
            f"{report.returncode}; None: it hung), so that it cannot say what it had imported: let it end by "
            f"itself, without os._exit() or a signal. It said:\n{report.output}"
        )
        allowed = stock().modules  # Ptychodus' own libraries may import one, where they are installed
        found = sorted(report.modules & {*self.frameworks, *_QT} - allowed)
        assert not found, (
            f"The application {when}, and its own process had imported {found}. A framework keeps its memory "
            "and its GPU until the application ends, and slows its start by seconds for users who never ask "
            "for it: import it in a child process, inside the functions that need it."
        )

    @staticmethod
    def _start(application: Application, request: Request) -> ProcessReport:
        stash: pytest.Stash = request.node.getparent(pytest.Class).stash
        if _START not in stash:
            stash[_START] = application.list_reconstructors()
        return stash[_START]

    @staticmethod
    def _model_name(case: Case) -> str:
        return f"{MODEL_BASENAME}{case.new().reconstructor.get_model_file_extension()}"

    def _train(self, case: Case, application: Application, request: Request) -> _Batch:
        case.require_training()
        runs = _runs_of(request)
        if ("train", case.name) not in runs:
            source, target = self._directory(case), case.new_directory("headless-trained")
            if "standard" not in self.training_sources:
                case.fill(source, case.new(), *self.training_sources)
            runs["train", case.name] = _Batch(application.batch("train", source, target), target)
        return runs["train", case.name]

    def _reconstruct(self, case: Case, application: Application, request: Request) -> _Batch:
        runs = _runs_of(request)
        if ("reconstruct", case.name) not in runs:
            source, target = self._directory(case), case.new_directory("headless-result")
            if is_trainable(case.new().reconstructor):
                model = self._model(case, application, request)
                shutil.copyfile(model, source / model.name)
            runs["reconstruct", case.name] = _Batch(application.batch("reconstruct", source, target), target)
        return runs["reconstruct", case.name]

    def _model(self, case: Case, application: Application, request: Request) -> Path:
        if not self.trains:
            return case.model
        run = self._train(case, application, request)
        model = run.target / self._model_name(case)
        if run.report.returncode != SUCCESS or not model.is_file():
            pytest.skip("there is no model: see test_headless_training_succeeds")
        return model


def _runs_of(request: Request) -> dict[tuple[str, str], _Batch]:
    stash: pytest.Stash = request.node.getparent(pytest.Class).stash
    return stash.setdefault(_RUNS, {})


def _key(bench: Bench, name: str) -> str:
    library, _ = bench.make()
    return f"{library.name}_{name}".casefold()


def _ended(action: str, report: ProcessReport, wanted: int) -> str:
    how = "hung" if report.returncode is None else f"ended with exit code {report.returncode}"
    return (
        f'"ptychodus -b {action}" {how}, and scripts rely on {wanted} here (0: success, 1: train() or '
        f"reconstruct() raised, 2: an input file is missing). It said:\n{report.output}"
    )
