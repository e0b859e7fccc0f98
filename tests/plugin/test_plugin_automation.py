"""Ptychodus' automation, which watches a directory: scans are loaded and reconstructed as they appear."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
from ptychodus.api.io import load_product
from ptychodus.model import ModelCore
from ptychodus.model.automation.buffer import PendingFileBuffer

from ptychopinn_ptychodus.config import DataConfig, ModelConfig, TrainingConfig, to_dict

SETTINGS = """\
[Processing]
Algorithm = ptychopinn-plugin_{algorithm}
[Automation]
Workflow = Standard_Directory
DataDirectory = {directory}
WatchdogDelayInSeconds = 1
[PtychoPINNPluginWithoutModel]
Epochs = 2
[PtychoPINNPluginRefinement]
Epochs = 2
[PtychoPINNPluginExamination]
Judge = False
[PtychoPINNPluginInference]
KeepWarm = 0
"""
Watch = Callable[[str], ModelCore]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """An application that watches ``tmp_path / "data"``, and looks more often than every five seconds."""
    monkeypatch.setattr(PendingFileBuffer, "WAIT_TIME_S", 0.2)
    (tmp_path / "data").mkdir()
    started: list[ModelCore] = []

    def start(algorithm: str) -> ModelCore:
        settings = tmp_path / "settings.ini"
        settings.write_text(SETTINGS.format(algorithm=algorithm, directory=tmp_path / "data"))
        core = ModelCore(settings)
        core.__enter__()
        started.append(core)
        core.automation_core.presenter.set_watcher_enabled(True)
        return core

    yield start
    for core in started:
        core.__exit__(None, None, None)


def appears(path: Path, core: ModelCore, within_s: float = 120) -> Path:
    """What the window does until the file is there, and whole: Ptychodus writes it in its place."""
    until = time.monotonic() + within_s
    while not path.is_file() or core.processing_core.processing_api.task_monitor.is_processing:
        assert time.monotonic() < until, f"{path} does not appear"
        core.run_tasks()
        time.sleep(0.05)
    return path


def test_scans_are_reconstructed_as_they_appear(
    standard_directory: Path, tmp_path: Path, watch: Watch
) -> None:
    core = watch("refinement")
    before = len(core.product_core.product_repository)
    for name in ("one", "two"):
        directory = tmp_path / "data" / name
        directory.mkdir()
        for file in ("diffraction.h5", "product.h5"):
            shutil.copy(standard_directory / file, directory)
    for name in ("one", "two"):
        found = load_product(appears(tmp_path / "data" / name / "output" / "product.000100.h5", core))
        assert len(found.losses) == 2
        assert "then 2 epochs of refinement" in found.metadata.comments
    # each is there once, with its result, though two files of each came
    assert len(core.product_core.product_repository) == before + 4


def test_a_scan_waits_for_its_other_file_however_it_comes(
    standard_directory: Path, tmp_path: Path, watch: Watch
) -> None:
    core = watch("refinement")
    directory = tmp_path / "data"
    gone = directory / "gone.h5"
    gone.touch()  # a file that vanishes would end the watching
    shutil.copy(standard_directory / "product.h5", directory)
    until = time.monotonic() + 4  # longer than files are waited for
    while time.monotonic() < until:
        core.run_tasks()
        if any(found.file_path == gone for found in core.automation_core.repository):
            gone.unlink(missing_ok=True)  # it has been taken note of, and is yet to be looked at
        time.sleep(0.05)
    assert not (directory / "output").exists()
    part = directory / ".diffraction.h5.part"  # as rsync does
    shutil.copy(standard_directory / "diffraction.h5", part)
    part.rename(directory / "diffraction.h5")
    appears(directory / "output" / "product.000100.h5", core)


@pytest.mark.usefixtures("fake_site")
def test_a_model_that_is_loaded_is_applied(
    standard_directory: Path, tmp_path: Path, watch: Watch, log: pytest.LogCaptureFixture
) -> None:
    with h5py.File(standard_directory / "diffraction.h5") as file:
        size = file["patterns"].shape[-1]
    config = ModelConfig(N=size, gridsize=2)
    content = {
        "fake": "pytorch",
        "model": to_dict(config),
        "data": to_dict(DataConfig(N=size, gridsize=2)),
        "history": {"train_loss": [1.0], "val_loss": []},
        "config": to_dict(TrainingConfig(model=config)),
    }
    (tmp_path / "model.ckpt").write_text(json.dumps(content))
    core = watch("pinn")
    core.processing_core.processing_api.load_model_from_file(tmp_path / "model.ckpt")
    directory = tmp_path / "data" / "one"
    shutil.copytree(standard_directory, directory)
    found = load_product(appears(directory / "output" / "product.000100.h5", core))
    assert len(found.losses) == 2
    assert (directory / "output" / "product.000050.h5").is_file()


def test_without_a_model_it_is_said_and_the_next_scan_is_taken(
    standard_directory: Path, tmp_path: Path, watch: Watch, log: pytest.LogCaptureFixture
) -> None:
    core = watch("pinn")
    shutil.copytree(standard_directory, tmp_path / "data" / "one")
    until = time.monotonic() + 60
    while "PINN has no model" not in log.text:
        assert time.monotonic() < until
        core.run_tasks()
        time.sleep(0.05)
    core.processing_core.processing_api.set_reconstructor_if_provided("ptychopinn-plugin_refinement")
    shutil.copytree(standard_directory, tmp_path / "data" / "two")  # with the files' own times
    appears(tmp_path / "data" / "two" / "output" / "product.000100.h5", core)
