"""Trainings that are ended from outside and resumed, and one model of several scans: the real commands."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_support import Command

from ptychopinn_ptychodus.api import open_model
from ptychopinn_ptychodus.cli import demo

pytest.importorskip("torch")

SETTINGS = {
    "Model": {"NumFiltersScale": 1, "Backend": "pytorch"},
    "Training": {"Epochs": 8, "Preview": False, "Accelerator": "cpu"},
}
LIMIT_S = 300.0


def settings_file(path: Path, **more: object) -> Path:
    lines = ["[Processing]", "Algorithm = ptychopinn-plugin_pinn"]
    for group, values in SETTINGS.items():
        lines += [f"[PtychoPINNPlugin{group}]", *(f"{name} = {value}" for name, value in values.items())]
    path.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in more.items()), ""]))
    return path


def end_early(command: list[str], output: Path, end: signal.Signals) -> None:
    """Start a training and end it as soon as there is something to go on with."""
    state = output / "checkpoints" / "training.state"
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, start_new_session=True, stdout=silent, stderr=silent)
    try:
        deadline = time.monotonic() + LIMIT_S
        while not state.is_file():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if end == signal.SIGTERM:
            process.terminate()  # the worker hears of it by the end of its input, and keeps its best model
        else:
            os.killpg(process.pid, end)  # all at once: the worker hears of nothing
        process.wait(LIMIT_S)
        while end == signal.SIGTERM and not (output / "model.ckpt").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)  # the worker ends
    finally:
        process.kill()
    assert state.is_file()


def test_a_training_that_was_ended_is_resumed_to_the_same_curve(
    command: Command, scan: Path, tmp_path: Path
) -> None:
    settings = settings_file(tmp_path / "settings.ini")
    done = command("train", "-i", scan, "-o", tmp_path / "whole", "-s", settings)
    assert done.returncode == 0, done.stderr
    expected = (tmp_path / "whole" / "training_history.csv").read_text()
    assert len(expected.splitlines()) == 9
    stock = [sys.executable, "-m", "ptychodus", "-b", "train", "-i", str(scan)]
    own = [sys.executable, "-m", "ptychopinn_ptychodus.cli", "train", "-i", str(scan)]

    # the stock application, by SIGTERM; resumed by a setting
    output = tmp_path / "stock"
    end_early([*stock, "-o", str(output), "-s", str(settings)], output, signal.SIGTERM)
    again = settings_file(tmp_path / "resume.ini", Start="resume")
    subprocess.run([*stock, "-o", str(output), "-s", str(again)], check=True, capture_output=True)
    assert (output / "training_history.csv").read_text() == expected
    assert not (output / "checkpoints").exists()

    # our own command, by SIGKILL; resumed by a flag
    output = tmp_path / "own"
    end_early([*own, "-o", str(output), "-s", str(settings)], output, signal.SIGKILL)
    assert not (output / "model.ckpt").exists()
    done = command("train", "-i", scan, "-o", output, "-s", settings, "--resume")
    assert done.returncode == 0, done.stderr
    assert (output / "training_history.csv").read_text() == expected
    assert open_model(output).history == open_model(tmp_path / "whole").history

    # it is complete now
    done = command("train", "-i", scan, "-o", output, "-s", settings, "--resume")
    assert done.returncode == 1
    assert "is a model that is complete" in done.stderr


def test_one_model_of_several_scans_and_a_training_that_starts_from_it(
    command: Command, scan: Path, tmp_path: Path
) -> None:
    beamtime, settings = tmp_path / "beamtime", settings_file(tmp_path / "settings.ini")
    shutil.copytree(scan, beamtime / "first")
    (beamtime / "second").mkdir(parents=True)
    demo.write_standard_directory(demo.simulate(5), beamtime / "second")
    _change_probe(beamtime / "second" / "product.h5")
    (beamtime / "third").mkdir()
    shutil.copy(scan / "diffraction.h5", beamtime / "third")
    short = ["-s", settings, "--set", "PtychoPINNPluginTraining.Epochs=1"]
    arguments = ["train", "-i", beamtime, "-o", tmp_path / "many", *short]
    done = command(*arguments)
    assert done.returncode == 1
    assert "1 of 3 scans" in done.stderr
    assert "third" in done.stderr
    done = command(*arguments, "--skip-damaged", "-v")
    assert done.returncode == 0, done.stderr
    assert "Scan 2 of 3: second." in done.stderr
    assert "The scan third cannot be learnt from" in done.stderr
    many = open_model(tmp_path / "many")
    assert many.description.data.any_probe
    arguments = ["train", "-i", scan, "-o", tmp_path / "one", *short, "-m", many.path]
    done = command(*arguments, "--set", "PtychoPINNPluginModel.GridSize=3")
    assert done.returncode == 1
    assert "The setting PtychoPINNPluginModel.GridSize = 3 is 2 in the model" in done.stderr
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert not open_model(tmp_path / "one").description.data.any_probe


def _change_probe(path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file["probe"][...] = file["probe"][()] * 2
