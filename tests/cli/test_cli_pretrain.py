"""``pretrain``: models for any scan, what they are applied to, and what goes wrong before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_support import SOONEST, SOONEST_MODEL
from ptychodus.api.io import load_product

from ptychopinn_ptychodus.backends.registry import guess_engine
from ptychopinn_ptychodus.cli import main
from ptychopinn_ptychodus.data.simulation import make_probe
from ptychopinn_ptychodus.worker.job import PretrainJob

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
Capture = pytest.CaptureFixture[str]
TINY = ("--scans", 2, "--epochs", 1)


def write_probe(path: Path, probe: np.ndarray) -> Path:
    np.savez(path, probeGuess=probe)
    return path


@pytest.fixture(scope="module")
def pretrained(command: Command, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A directory with a model that learnt from the scan's probe and another one, and what was said."""
    output = tmp_path_factory.mktemp("pretrained")
    other = write_probe(output / "other.npz", make_probe(64, diameter=0.6, modes=2))
    probes = ("--probe", scan / "product.h5", other)
    return output, command("pretrain", "-o", output, *TINY, *probes, "--probe-errors", 1)


def test_it_leaves_a_model_for_any_probe(pretrained: tuple[Path, Done], extension: str) -> None:
    output, done = pretrained
    assert done.returncode == 0, done.stderr
    model = output / f"model{extension}"
    assert f"Model: {model}" in done.stdout
    assert (output / "training_history.csv").read_text().count("\n") == 2
    assert (output / "training_history.png").is_file()
    assert not (output / "checkpoints").exists()
    description = guess_engine(model).describe(model)
    assert description.data.any_probe
    assert (description.data.probe_modes, description.model.N) == (2, 64)
    assert len(description.history["val_loss"]) == 1
    assert weights_of(model) == (0.0, 1.0)


def test_the_model_reconstructs_as_any_other(
    pretrained: tuple[Path, Done], command: Command, scan: Path, tmp_path: Path, extension: str
) -> None:
    model = pretrained[0] / f"model{extension}"
    settings = (
        "--set",
        "PtychoPINNPluginRefinement.Epochs=2",
        "--set",
        "PtychoPINNPluginTraining.ProbeModes=2",
    )
    done = command("reconstruct", "-i", scan, "-o", tmp_path, "-m", model, *settings)
    assert done.returncode == 0, done.stderr
    network, refined = (load_product(tmp_path / name) for name in ("network.h5", "product.h5"))
    assert np.isfinite(refined.object_.get_array()).all()
    # the network's probe is the scan's, and the modes that are asked for are found by the refinement
    assert network.probes.get_array().shape[1] == 1
    assert refined.probes.get_array().shape[1] == 2
    given = load_product(scan / "product.h5").probes.get_array()[0, 0]
    found = network.probes.get_array()[0, 0]
    overlap = np.abs(np.vdot(given, found)) / np.linalg.norm(given) / np.linalg.norm(found)
    assert overlap == pytest.approx(1.0, abs=1e-4)


def weights_of(model: Path) -> tuple[float, float]:
    """Of the made object and of the made amplitudes, as the model file has them."""
    training = guess_engine(model).read_state(model).training
    return training.realspace_aligned_weight, training.mae_weight


def test_single_frames_under_made_probes_learn_from_the_object_and_are_not_advised_against(
    command: Command, scan: Path, tmp_path: Path
) -> None:
    fourier = ("--architecture", "unrolled_fourier", "--backend", SOONEST)
    done = command("pretrain", "-o", tmp_path, *TINY, "--size", 64, "--gridsize", 1, *fourier)
    assert done.returncode == 0, done.stderr
    model = tmp_path / SOONEST_MODEL
    description = guess_engine(model).describe(model)
    assert (description.model.N, description.model.gridsize) == (64, 1)
    assert description.model.architecture == "unrolled_fourier"
    assert weights_of(model) == (1.0, 0.0)
    off = ("--set", "PtychoPINNPluginRefinement.Epochs=0", "--set", "PtychoPINNPluginExamination.Judge=False")
    used = command("reconstruct", "-i", scan, "-o", tmp_path / "out", "-m", model, *off)
    assert used.returncode == 0, used.stderr
    assert "Single frames" not in done.stderr + used.stderr + used.stdout


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[PretrainJob]:
    """What would be run, in place of running it."""
    asked: list[PretrainJob] = []

    def run(job: PretrainJob, probes: object) -> int:
        asked.append(job)
        return 0

    monkeypatch.setattr("ptychopinn_ptychodus.cli.pretraining._run", run)
    return asked


@pytest.mark.parametrize(("gridsize", "groups"), [(1, 64), (2, 32)])
def test_a_frame_is_seen_once_an_epoch_and_members_of_groups_twice(
    gridsize: int, groups: int, tmp_path: Path, jobs: list[PretrainJob]
) -> None:
    assert main(["pretrain", "-o", str(tmp_path), "--gridsize", str(gridsize)]) == 0
    assert jobs[0].pretraining.groups_per_scan == groups


def test_reflections_are_those_of_the_network_or_refused_by_name(
    tmp_path: Path, jobs: list[PretrainJob], capsys: Capture
) -> None:
    assert main(["pretrain", "-o", str(tmp_path / "out"), "--reflections", "7"]) == 0
    assert jobs[0].asked.complete(64).model.reflections == 7
    assert "reflections = 2001" in refused(capsys, "-o", tmp_path / "out", "--reflections", 2001)


def test_modes_and_errors_of_the_probe_are_as_asked_for(tmp_path: Path, jobs: list[PretrainJob]) -> None:
    assert main(["pretrain", "-o", str(tmp_path)]) == 0
    assert main(["pretrain", "-o", str(tmp_path), "--modes", "3", "--probe-errors", "0.5"]) == 0
    found = [(job.pretraining.most_modes, job.pretraining.probe_errors) for job in jobs]
    assert found == [(1, 0.0), (3, 0.5)]


@pytest.mark.parametrize(
    "weights", [("--object-weight", 0), ("--object-weight", -1), ("--amplitude-weight", "nan")]
)
def test_weights_that_teach_nothing(weights: tuple[object, ...], tmp_path: Path, capsys: Capture) -> None:
    assert str(weights[0]) in refused(capsys, "-o", tmp_path / "out", "--gridsize", 1, *weights)
    assert not (tmp_path / "out").exists()


def test_interrupted_it_keeps_its_best_model_and_goes_on(
    interrupted: Command, command: Command, tmp_path: Path
) -> None:
    arguments = ["pretrain", "-o", str(tmp_path), "--scans", "2", "--epochs", "16", "--backend", SOONEST]
    arguments += ["--object-weight", "0.25", "--amplitude-weight", "0.5"]
    done = interrupted(arguments, tmp_path, within_s=300)
    assert done.returncode == 130, done.stderr
    model, table = tmp_path / SOONEST_MODEL, tmp_path / "training_history.csv"
    assert f"Best model so far: {model}" in done.stdout
    assert "with --resume" in done.stdout
    assert guess_engine(model).describe(model).data.any_probe
    before = table.read_text()
    assert 1 < before.count("\n") < 17

    done = command(*arguments, "--resume", "--seed", "1")
    assert done.returncode == 1
    assert "begun with" in done.stderr

    done = command(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert table.read_text().count("\n") == 17
    # what was learnt before is not learnt again
    assert table.read_text().startswith(before)
    assert not (tmp_path / "checkpoints").exists()
    assert len(guess_engine(model).describe(model).history["train_loss"]) == 16
    assert weights_of(model) == (0.25, 0.5)


def refused(capsys: Capture, *arguments: object) -> str:
    assert main(["pretrain", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_a_probe_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "nowhere.h5"
    assert f'no probe file "{path}"' in refused(capsys, "-o", tmp_path / "out", "--probe", path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["broken.h5", "broken.npz"])
def test_a_file_without_a_probe(name: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    assert str(tmp_path / name) in refused(capsys, "-o", tmp_path, "--probe", tmp_path / name)


@pytest.mark.parametrize("content", [b"PK\x03\x04 half a file", b"text"])
def test_a_file_that_is_no_npz(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "whole.npz", probeGuess=make_probe(64))
    for name, data in (("part", (tmp_path / "whole.npz").read_bytes()[:-50]), ("other", content)):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        assert str(path) in refused(capsys, "-o", tmp_path / "out", "--probe", path)
    np.save(tmp_path / "array.npy", make_probe(64))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    assert "array.npz" in refused(capsys, "-o", tmp_path / "out", "--probe", tmp_path / "array.npz")
    np.savez(tmp_path / "words.npz", probeGuess=np.full((64, 64), "probe"))
    assert "words.npz" in refused(capsys, "-o", tmp_path / "out", "--probe", tmp_path / "words.npz")


def test_an_npz_file_of_something_else(tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    assert "probeGuess" in refused(capsys, "-o", tmp_path, "--probe", tmp_path / "other.npz")


@pytest.mark.parametrize("probe", [np.zeros((64, 64), complex), np.full((64, 64), np.nan, complex)])
def test_a_probe_that_is_none(probe: np.ndarray, tmp_path: Path, capsys: Capture) -> None:
    assert "zero everywhere" in refused(
        capsys, "-o", tmp_path, "--probe", write_probe(tmp_path / "p.npz", probe)
    )


@pytest.mark.parametrize("shape", [(64, 32), (100, 100), (64,)])
def test_a_probe_of_a_shape_that_is_none(shape: tuple[int, ...], tmp_path: Path, capsys: Capture) -> None:
    path = write_probe(tmp_path / "p.npz", np.ones(shape, complex))
    assert str(path) in refused(capsys, "-o", tmp_path, "--probe", path)


def test_probes_of_different_sizes(tmp_path: Path, capsys: Capture) -> None:
    small, large = (write_probe(tmp_path / f"{n}.npz", make_probe(n)) for n in (64, 128))
    said = refused(capsys, "-o", tmp_path, "--probe", small, large)
    assert str(large) in said
    assert "128" in said
    assert "--size 128" in refused(capsys, "-o", tmp_path, "--probe", small, "--size", 128)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", 100),
        ("--scans", 0),
        ("--gridsize", 9),
        ("--seed", -1),
        ("--modes", 0),
        ("--probe-errors", 1.5),
        ("--backend", "abacus"),
        ("--architecture", "cnn"),
    ],
)
def test_arguments_that_make_no_sense(arguments: tuple[str, object], tmp_path: Path, capsys: Capture) -> None:
    assert main(["pretrain", "-o", str(tmp_path), *map(str, arguments)]) == 2
    assert str(arguments[1]) in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_to(tmp_path: Path, capsys: Capture) -> None:
    tmp_path.chmod(0o500)
    assert main(["pretrain", "-o", str(tmp_path / "out")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_an_output_that_is_a_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert main(["pretrain", "-o", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err
