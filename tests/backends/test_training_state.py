"""Files of interrupted trainings: data and nothing else, whatever is in them."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptychopinn_ptychodus.backends.base import ModelFileError, TrainingState
from ptychopinn_ptychodus.backends.training_state import read_state, write_state
from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig


@pytest.fixture
def state() -> TrainingState:
    return TrainingState(
        engine="abacus",
        training=TrainingConfig(nepochs=3),
        execution=ExecutionConfig(learning_rate=0.1),
        data="0123",
        history={"train_loss": [1.0, 0.1 + 0.2], "val_loss": []},
        seconds=2.5,
        patterns=12,
        values={"best": float("inf"), "names": ["a", None, True]},
        arrays={
            "model/a": np.arange(6, dtype=np.float32).reshape(2, 3),
            "model/b": np.array(1.5, np.float64),
            "order": np.arange(3, dtype=np.uint8),
            "empty": np.zeros((0, 3), np.float32),
        },
    )


@pytest.fixture
def path(tmp_path: Path, state: TrainingState) -> Path:
    file = tmp_path / "checkpoints" / "training.state"
    write_state(state, file)
    return file


def changed(path: Path, compression: int = zipfile.ZIP_STORED, **changes: Any) -> None:
    """Write the file anew, with other values in its description."""
    with zipfile.ZipFile(path) as archive:
        about, arrays = json.loads(archive.read("training.json")), archive.read("arrays")
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("training.json", json.dumps(about | changes))
        archive.writestr("arrays", arrays)


def test_what_is_written_is_read(path: Path, state: TrainingState) -> None:
    found = read_state(path)
    for name in ("engine", "training", "execution", "data", "history", "seconds", "patterns", "values"):
        assert getattr(found, name) == getattr(state, name)
    assert found.epochs == 2
    assert found.arrays.keys() == state.arrays.keys()
    for name, array in state.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert set(found.named("model")) == {"a", "b"}


class Evil:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('code was run')",)


def test_nothing_is_unpickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelFileError, match="damaged"):
        read_state(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"arrays": [["model/a", "object", [6]]]},
        {"arrays": [["model/a", "float32", [2**60]]]},
        {"arrays": [["model/a", "float32", [-1, 6]]]},
        {"arrays": [["model/a", "float32", [6]]]},  # less than there is
        {"history": {"train_loss": [], "val_loss": []}},
        {"history": {"train_loss": ["x"]}},
        {"training": {"nepochs": 0}},
        {"values": 3},
        {"compression": zipfile.ZIP_DEFLATED},
    ],
)
def test_what_is_damaged_is_refused_by_name(path: Path, changes: dict[str, Any]) -> None:
    changed(path, **changes)
    with pytest.raises(ModelFileError, match=r"training\.state.*damaged.*Train without resuming"):
        read_state(path)


def test_what_is_cut_short_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelFileError, match="damaged"):
        read_state(path)


def test_a_newer_version_is_named(path: Path) -> None:
    changed(path, format=99, version="9.9")
    with pytest.raises(ModelFileError, match=r"version 9\.9 .* pip install --upgrade"):
        read_state(path)
