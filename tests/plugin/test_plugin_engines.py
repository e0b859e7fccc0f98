"""Which engine trains, which one opens a model, and what is said where that is not possible."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugin_support import add_engines, forget_engines, make_library, run
from ptychodus.api.reconstruct import ReconstructInput

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.backends.framework import EngineUnavailableError
from ptychopinn_ptychodus.plugin import selection
from ptychopinn_ptychodus.plugin.library import PtychoPINNPluginLibrary
from ptychopinn_ptychodus.plugin.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.plugin.selection import model_file_type, select_engine
from ptychopinn_ptychodus.worker.job import Job, ReconstructJob
from ptychopinn_ptychodus.worker.process import ChildProcess

pytestmark = pytest.mark.usefixtures("fake_site")

SUFFIXES = {"pytorch": ".ckpt", "tensorflow": ".wts.h5.zip", "abacus": ".beads"}
HINTS = {"pytorch": "fake-torch", "tensorflow": "fake-tensorflow", "abacus": "pip install abacus"}


def pinn(backend: str = "auto", **values: Any) -> PtychoPINNReconstructor:
    return next(iter(make_library(Model_Backend=backend, Training_Epochs=2, **values)))


def selected(backend: str) -> str:
    return select_engine(make_library(Model_Backend=backend).settings).name


def trainable(library: PtychoPINNPluginLibrary) -> list[PtychoPINNReconstructor]:
    """Those that have models."""
    found = [one for one in library if isinstance(one, PtychoPINNReconstructor)]
    assert len(found) == 2
    return found


class TestTraining:
    @pytest.mark.parametrize(
        ("installed", "backend", "expected"),
        [
            (["tensorflow", "pytorch"], "auto", "tensorflow"),
            (["tensorflow"], "auto", "tensorflow"),
            (["pytorch"], "auto", "pytorch"),
            (["abacus"], "auto", "abacus"),
            (["abacus", "pytorch"], "auto", "pytorch"),
            (["tensorflow", "pytorch"], "tensorflow", "tensorflow"),
            (["tensorflow", "pytorch"], "pytorch", "pytorch"),
            (["tensorflow", "pytorch", "abacus"], "abacus", "abacus"),
        ],
    )
    def test_engine_extension_and_filter(
        self,
        abacus: str,
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
        installed: list[str],
        backend: str,
        expected: str,
    ) -> None:
        wish(installed=installed)
        library = make_library(Model_Backend=backend)
        engine = select_engine(library.settings)
        assert engine.name == expected
        assert model_file_type(library.settings) == (SUFFIXES[expected], engine.model_filter)
        for reconstructor in trainable(library):
            assert reconstructor.get_model_file_extension() == SUFFIXES[expected]
            assert SUFFIXES[expected] in reconstructor.get_model_file_filter()
        assert (f'Backend "auto": {engine.title} is used' in log.text) == (backend == "auto")

    @pytest.mark.parametrize(
        ("installed", "backend", "hints"),
        [
            ([], "auto", ["tensorflow", "pytorch", "abacus"]),
            ([], "tensorflow", ["tensorflow"]),
            (["pytorch", "abacus"], "tensorflow", ["tensorflow"]),
            (["tensorflow", "abacus"], "pytorch", ["pytorch"]),
            (["tensorflow", "pytorch"], "abacus", ["abacus"]),
        ],
    )
    def test_a_missing_framework_is_never_replaced_by_another(
        self,
        abacus: str,
        wish: Callable[..., None],
        standard_directory: Path,
        tmp_path: Path,
        log: pytest.LogCaptureFixture,
        installed: list[str],
        backend: str,
        hints: list[str],
    ) -> None:
        wish(installed=installed)
        reconstructor = pinn(backend)
        with pytest.raises(EngineUnavailableError) as caught:
            run(reconstructor.train(standard_directory, tmp_path / "out"))
        message = str(caught.value)
        assert message in log.text
        assert {name for name, hint in HINTS.items() if hint in message} == set(hints)
        assert ("backend selected" in message) == (backend != "auto")
        assert not (tmp_path / "out").exists()
        # the dialogs are asked whatever is missing
        assert reconstructor.get_model_file_extension() == SUFFIXES[hints[0]]

    def test_a_change_of_the_setting_takes_effect_at_once(
        self, standard_directory: Path, tmp_path: Path, wish: Callable[..., None]
    ) -> None:
        wish(installed=["tensorflow", "pytorch"])
        library = make_library(Training_Epochs=1)
        for reconstructor in trainable(library):
            for backend in ("pytorch", "tensorflow"):
                library.settings["Model.Backend"].set_value(backend)
                out = tmp_path / f"{reconstructor.name}-{backend}"
                run(reconstructor.train(standard_directory, out))
                model = out / f"model{SUFFIXES[backend]}"
                assert json.loads(model.read_text())["config"]["backend"] == backend
                assert reconstructor.require_model() == model
                assert [path for path in out.iterdir() if path.name.startswith("model")] == [model]

    def test_a_name_that_nobody_has_lists_those_that_exist(self, abacus: str) -> None:
        with pytest.raises(ValueError, match=r"Backend = 'jax'.*'auto', 'tensorflow', 'pytorch', 'abacus'"):
            selected("jax")
        assert pinn("jax").get_model_file_extension() == ".ckpt"  # as auto

    def test_an_engine_that_is_broken_hurts_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
    ) -> None:
        # found after the fake of the same name, it takes its place
        add_engines(tmp_path, "broken", "no_such_module", tensorflow="Engine")
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        forget_engines()
        assert selected("auto") == "pytorch"
        assert "'tensorflow' (no_such_module:Engine) could not be loaded" in log.text
        assert pinn().get_model_file_extension() == ".ckpt"
        assert pinn("tensorflow").get_model_file_extension() == ".ckpt"
        with pytest.raises(RuntimeError, match="no_such_module"):
            selected("tensorflow")

    def test_an_engine_that_an_incomplete_installation_lacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only = {"pytorch": registry.list_engines()["pytorch"]}
        monkeypatch.setattr(selection, "list_engines", lambda: only)
        with pytest.raises(EngineUnavailableError, match=r"Backend = 'tensorflow'.*'pytorch'.*pip install"):
            selected("tensorflow")
        assert selected("auto") == "pytorch"

    def test_dialogs_get_an_answer_without_any_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(selection, "list_engines", lambda: {})
        assert pinn().get_model_file_extension() == ".ckpt"
        assert "*.ckpt" in pinn("tensorflow").get_model_file_filter()
        with pytest.raises(EngineUnavailableError, match="ptychopinn-ptychodus"):
            selected("auto")


@pytest.fixture
def model(fake_model: Callable[..., Path], wish: Callable[..., None]) -> Path:
    """A model that the engine pytorch has trained; every framework is there until a test says no."""
    path = fake_model(epochs=2)
    wish(installed=["tensorflow", "pytorch", "abacus"])
    return path


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs of the workers."""
    jobs = []
    original = ChildProcess.start

    def start(self: ChildProcess, job: Job) -> None:
        jobs.append(job)
        original(self, job)

    monkeypatch.setattr(ChildProcess, "start", start)
    return jobs


class TestReconstruction:
    @pytest.mark.parametrize("backend", ["auto", "tensorflow", "abacus", "jax"])
    def test_the_model_file_decides(
        self,
        abacus: str,
        model: Path,
        scan: Callable[..., ReconstructInput],
        log: pytest.LogCaptureFixture,
        jobs: list[Job],
        backend: str,
    ) -> None:
        reconstructor = pinn(backend)
        reconstructor.load_model_from_file(model)
        assert 'model.ckpt", a model of Fake PyTorch' in log.text
        assert len(run(reconstructor.reconstruct(scan()))) == 1
        assert "patterns with Fake PyTorch" in log.text
        assert isinstance(jobs[-1], ReconstructJob)
        assert jobs[-1].asked.backend == "pytorch"

    @pytest.mark.parametrize(
        ("installed", "backend", "expected"),
        [
            (["tensorflow"], "auto", "tensorflow"),
            (["tensorflow"], "pytorch", "tensorflow"),
            (["tensorflow", "abacus"], "auto", "tensorflow"),
            (["tensorflow", "abacus"], "abacus", "abacus"),
            (["abacus"], "tensorflow", "abacus"),
            (["tensorflow", "abacus"], "jax", "tensorflow"),
        ],
    )
    def test_it_is_converted_where_its_framework_is_missing(
        self,
        abacus: str,
        model: Path,
        scan: Callable[..., ReconstructInput],
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
        jobs: list[Job],
        installed: list[str],
        backend: str,
        expected: str,
    ) -> None:
        wish(installed=installed)
        reconstructor = pinn(backend)
        reconstructor.load_model_from_file(model)
        (output,) = run(reconstructor.reconstruct(scan()))
        assert len(output.product.losses) == 2  # its history came along
        assert "written by Fake PyTorch, which is not installed" in log.text
        assert isinstance(jobs[-1], ReconstructJob)
        assert jobs[-1].asked.backend == expected
        title = {"tensorflow": "Fake TensorFlow", "abacus": "Abacus"}[expected]
        assert f"patterns with {title}" in log.text

    def test_without_any_framework_it_is_loaded_but_not_used(
        self,
        model: Path,
        scan: Callable[..., ReconstructInput],
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
    ) -> None:
        wish(installed=[])
        reconstructor = pinn()
        reconstructor.load_model_from_file(model)
        assert reconstructor.is_model_loaded()
        assert "Before it can be used: " in log.text
        with pytest.raises(EngineUnavailableError, match=r"model\.ckpt.*'pytorch'.*pip install fake-torch"):
            run(reconstructor.reconstruct(scan()))

    def test_what_cannot_be_converted_names_both_engines_and_the_reason(
        self,
        model: Path,
        scan: Callable[..., ReconstructInput],
        wish: Callable[..., None],
        log: pytest.LogCaptureFixture,
    ) -> None:
        wish(installed=["tensorflow"], unconvertible=True)
        reconstructor = pinn()
        reconstructor.load_model_from_file(model)
        with pytest.raises(ModelFileError, match=r"'pytorch'.*'tensorflow': as the test asked"):
            run(reconstructor.reconstruct(scan()))
        assert "Reconstruction failed: " in log.text
