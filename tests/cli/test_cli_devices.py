"""Several processes that train one model, from the command line: one of them writes and speaks."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cli_support import Command

pytestmark = pytest.mark.skipif(find_spec("lightning") is None, reason="needs lightning (extra torch)")

SETTINGS = {
    "Model.Backend": "pytorch",
    "Model.NumFiltersScale": "1",
    "Training.Epochs": "1",
    "Training.BatchSize": "4",
    "Training.Accelerator": "cpu",
    "Data.NumGroups": "10",
}


def _arguments(scan: Path, output: Path, devices: int, **more: str) -> list[str]:
    values = {**SETTINGS, "Training.Devices": str(devices), **more}
    assignments = [f"PtychoPINNPlugin{name}={value}" for name, value in values.items()]
    return [
        "train",
        "-i",
        str(scan),
        "-o",
        str(output),
        *(part for a in assignments for part in ("--set", a)),
    ]


def _losses(directory: Path) -> list[float]:
    lines = (directory / "training_history.csv").read_text().splitlines()
    assert len(lines) == 2
    return [float(value) for value in lines[1].split(",")]


def test_devices_and_torchrun_train_what_one_process_does(
    command: Command, scan: Path, tmp_path: Path
) -> None:
    alone, ours, launched = (tmp_path / name for name in ("alone", "ours", "launched"))
    for devices, output in ((1, alone), (2, ours)):
        done = command(*_arguments(scan, output, devices))
        assert done.returncode == 0, done.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "ptychopinn_ptychodus.cli", *_arguments(scan, launched, 2)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model:") == 1, "the second process says nothing"
    for directory in (ours, launched):
        np.testing.assert_allclose(_losses(directory), _losses(alone), rtol=1e-3)
        assert {path.name for path in directory.iterdir()} == {path.name for path in alone.iterdir()}
        assert len(list(directory.glob("model*"))) == 1


def test_engine_that_has_one_device_says_which_has_several(
    command: Command, scan: Path, tmp_path: Path
) -> None:
    if find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow (extra tensorflow)")
    done = command(*_arguments(scan, tmp_path, 2, **{"Model.Backend": "tensorflow"}))
    assert done.returncode != 0
    assert "PtychoPINNPluginTraining.Devices = 2 is not supported by the engine 'tensorflow'" in done.stderr
    assert "'pytorch'" in done.stderr
