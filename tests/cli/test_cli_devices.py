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
    "Training.ProbeTrainable": "False",  # else it is found first, which takes its time
    "Data.NumGroups": "10",
}


def _arguments(scan: Path, output: Path, devices: int) -> list[str]:
    values = {**SETTINGS, "Training.Devices": str(devices)}
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
    return [float(value) for value in lines[1].split(",") if value]


def test_setting_and_torchrun_train_the_same_model(command: Command, scan: Path, tmp_path: Path) -> None:
    ours, launched = tmp_path / "ours", tmp_path / "launched"
    done = command(*_arguments(scan, ours, 2))
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
    np.testing.assert_allclose(_losses(launched), _losses(ours), rtol=1e-6)
    assert {path.name for path in launched.iterdir()} == {path.name for path in ours.iterdir()}
    assert len(list(launched.glob("model*"))) == 1
