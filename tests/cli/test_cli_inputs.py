"""Bad input: one line that names the file or value and the remedy, and the right exit code."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptychopinn_ptychodus.cli import commands, main, session

Capture = pytest.CaptureFixture[str]


def fails(code: int, capsys: Capture, *arguments: object) -> str:
    """The error line of a command that must end with ``code``."""
    assert main([str(argument) for argument in arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, lines
    return errors[0]


@pytest.fixture
def copy(scan: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scan, tmp_path / "copy"))


@pytest.mark.parametrize("command", ["train", "reconstruct", "export"])
def test_missing_input_directory(command: str, tmp_path: Path, capsys: Capture) -> None:
    error = fails(2, capsys, command, "-i", tmp_path / "nowhere", "-o", tmp_path / "out.npz")
    assert str(tmp_path / "nowhere") in error
    assert not (tmp_path / "out.npz").exists()


def test_nothing_to_train_on(tmp_path: Path, capsys: Capture) -> None:
    error = fails(2, capsys, "train", "-i", tmp_path, "-o", tmp_path / "out")
    assert all(name in error for name in ("train_data.npz", "diffraction.h5", "product.h5", str(tmp_path)))


@pytest.mark.parametrize("missing", ["diffraction.h5", "product.h5"])
def test_incomplete_standard_directory(missing: str, copy: Path, capsys: Capture) -> None:
    (copy / missing).unlink()
    assert missing in fails(2, capsys, "export", "-i", copy, "-o", copy / "x.npz")
    assert missing in fails(2, capsys, "train", "-i", copy, "-o", copy)


@pytest.mark.parametrize("name", ["diffraction.h5", "product.h5"])
def test_truncated_file(name: str, copy: Path, capsys: Capture) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    error = fails(1, capsys, "export", "-i", copy, "-o", copy / "x.npz")
    assert str(copy / name) in error
    assert "save it again" in error


@pytest.mark.parametrize(("engine", "name"), [("pytorch", "model.ckpt"), ("tensorflow", "model.wts.h5.zip")])
def test_reconstruct_without_a_model(
    engine: str, name: str, scan: Path, tmp_path: Path, capsys: Capture
) -> None:
    choice = ["--set", f"PtychoPINNPluginModel.Backend={engine}", "--algorithm", "PINN"]
    error = fails(2, capsys, "reconstruct", "-i", scan, "-o", tmp_path, *choice)
    assert str(scan / name) in error
    assert "ptychopinn-ptychodus train" in error
    assert "--algorithm Refinement" in error
    error = fails(2, capsys, "reconstruct", "-i", scan, "-o", tmp_path, "-m", tmp_path / "mine.ckpt")
    assert str(tmp_path / "mine.ckpt") in error


def test_an_algorithm_without_models_and_trainings(scan: Path, tmp_path: Path, capsys: Capture) -> None:
    choice = ["--algorithm", "Refinement"]
    error = fails(2, capsys, "reconstruct", "-i", scan, "-o", tmp_path, "-m", tmp_path / "mine.ckpt", *choice)
    assert "leave -m out" in error
    assert main(["train", "-i", str(scan), "-o", str(tmp_path), *choice]) == 2
    assert "invalid choice" in capsys.readouterr().err


def test_several_models_of_other_engines(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    others = [scan / "model.beads", scan / "model.knots"]
    monkeypatch.setattr(commands, "models_in", lambda directory: others)
    error = fails(2, capsys, "reconstruct", "-i", scan, "-o", tmp_path)
    assert all(path.name in error for path in others)
    assert "-m" in error


def test_foreign_model(scan: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "foreign.ckpt").write_bytes(b"not a model")
    error = fails(1, capsys, "reconstruct", "-i", scan, "-o", tmp_path, "-m", tmp_path / "foreign.ckpt")
    assert str(tmp_path / "foreign.ckpt") in error
    assert not (tmp_path / "product.h5").exists()


@pytest.mark.parametrize("command", ["train", "export"])
def test_unwritable_output(command: str, scan: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "out" / ("x.npz" if command == "export" else "")
    error = fails(1, capsys, command, "-i", scan, "-o", target)
    assert str(tmp_path / "file") in error
    assert "-o" in error


def test_export_needs_an_npz_name(scan: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "data.h5" in fails(2, capsys, "export", "-i", scan, "-o", tmp_path / "data.h5")


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        (
            "PtychoPINNPluginTraining.Epoch=3",
            ["no setting Epoch", "BatchSize, ", " Epochs, ", "LearningRate"],
        ),
        ("PtychoPINNPluginTrain.Epochs=3", ["no section PtychoPINNPluginTrain", "PtychoPINNPluginTraining"]),
        ("Procesing.Algorithm=x", ["no section Procesing", "for example: Processing"]),
        ("Epochs=3", ["Section.Key=value"]),
        ("PtychoPINNPluginTraining.Epochs", ["Section.Key=value"]),
        ("PtychoPINNPluginTraining.Epochs=many", ["Epochs = many", "whole number"]),
        ("PtychoPINNPluginTraining.LearningRate=fast", ["LearningRate = fast", "a number"]),
        ("PtychoPINNPluginTraining.ProbeTrainable=maybe", ["ProbeTrainable = maybe", "True or False"]),
    ],
)
def test_wrong_assignment(
    assignment: str, said: list[str], scan: Path, tmp_path: Path, capsys: Capture
) -> None:
    error = fails(2, capsys, "export", "-i", scan, "-o", tmp_path / "x.npz", "--set", assignment)
    assert all(words in error for words in said), error


@pytest.mark.parametrize(("key", "value"), [("Epochs", 0), ("NumWorkers", 10**6)])
def test_value_out_of_range_names_the_setting(
    key: str, value: int, scan: Path, tmp_path: Path, capsys: Capture
) -> None:
    setting = f"PtychoPINNPluginTraining.{key}={value}"
    error = fails(1, capsys, "train", "-i", scan, "-o", tmp_path, "--set", setting)
    assert f"PtychoPINNPluginTraining.{key} = {value}" in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no settings file"),
        ("no sections here", "not a settings file"),
        ("[PtychoPINNPluginTraining]\nEpochs = ten\n", "PtychoPINNPluginTraining.Epochs = ten"),
    ],
)
def test_wrong_settings_file(
    content: str | None, said: str, scan: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "mine.ini"
    if content is not None:
        path.write_text(content)
    error = fails(2, capsys, "export", "-i", scan, "-o", tmp_path / "x.npz", "-s", path)
    assert said in error
    assert str(path) in error


def test_misspelt_section_is_pointed_out(scan: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "mine.ini"
    path.write_text("[PtychoPINNPluginTrainig]\nEpochs = 3\n")
    assert main(["export", "-i", str(scan), "-o", str(tmp_path / "x.npz"), "-s", str(path)]) == 0
    assert "[PtychoPINNPluginTrainig]" in capsys.readouterr().err


def test_byte_order_mark_and_keys_given_twice(scan: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "mine.ini"
    for content in ("\ufeff[PtychoPINNPluginTraining]\nEpochs = 1\n", "[Other]\nEpochs = 1\nepochs = 2\n"):
        path.write_text(content, encoding="utf-8")
        error = fails(2, capsys, "export", "-i", scan, "-o", tmp_path / "x.npz", "-s", path)
        assert str(path) in error
        assert "save the settings again" in error


def test_dataset_of_another_kind(copy: Path, capsys: Capture) -> None:
    """Such values are refused before Ptychodus reads them: it would end in a TypeError of numpy's."""
    with h5py.File(copy / "product.h5", "r+") as file:
        del file["probe_position_y_m"]
        file["probe_position_y_m"] = np.zeros(25, dtype=[("x", "f8"), ("y", "i4")])
    error = fails(1, capsys, "export", "-i", copy, "-o", copy / "x.npz")
    assert str(copy / "product.h5") in error
    assert "probe_position_y_m" in error
    assert "save it again" in error


def test_what_ptychodus_logs_with_a_traceback(
    copy: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on without what it could not compute; here there is a line about it."""
    # which would refuse the one fault that is known to bring Ptychodus to do so
    monkeypatch.setattr(session, "check_standard_files", lambda *_: None)
    with h5py.File(copy / "diffraction.h5", "r+") as file:
        file["patterns"].attrs["detector_pixel_height_m"] = -7.5e-5
    main(["export", "-i", str(copy), "-o", str(copy / "x.npz")])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "math domain error; --debug shows where" in said


def test_unusable_scan_is_named(copy: Path, capsys: Capture) -> None:
    """The scan in memory does not know where it came from: the command does."""
    with h5py.File(copy / "diffraction.h5", "r+") as file:
        file["bad_pixels"][...] = True
    error = fails(1, capsys, "export", "-i", copy, "-o", copy / "x.npz")
    assert "bad_pixels" in error
    assert str(copy) in error


def test_too_little_memory(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(arguments: object) -> int:
        raise MemoryError("Unable to allocate 9.00 TiB")

    monkeypatch.setattr(commands, "export", fail)
    error = fails(1, capsys, "export", "-i", scan, "-o", tmp_path / "x.npz")
    assert "9.00 TiB" in error
    assert "reduce" in error
    assert "--debug" not in error
