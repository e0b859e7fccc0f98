"""``convert``: what is asked follows from the command line alone; what comes out is the same model."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ptychodus.api.io import load_product

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.backends.base import Engine
from ptychopinn_ptychodus.backends.conversion import read_model
from ptychopinn_ptychodus.backends.registry import guess_engine
from ptychopinn_ptychodus.cli import conversion, main
from ptychopinn_ptychodus.cli.conversion import choose_target
from ptychopinn_ptychodus.cli.errors import UsageError

Capture = pytest.CaptureFixture[str]
Command = Callable[..., subprocess.CompletedProcess[str]]

NAMES = {"pytorch": "model.ckpt", "tensorflow": "model.wts.h5.zip"}


def fails(code: int, capsys: Capture, *arguments: object) -> str:
    """The error line of a conversion that must end with ``code``."""
    assert main(["convert", *map(str, arguments)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# ---- what is asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "backend", "engine"),
    [
        ("a.ckpt", None, "pytorch"),
        ("a.b.ckpt", "pytorch", "pytorch"),
        ("model.wts.h5.zip", None, "tensorflow"),
        ("wts.h5.zip", None, "tensorflow"),
        ("a.zip", "tensorflow", "tensorflow"),
    ],
)
def test_the_extension_says_for_which_engine(
    name: str, backend: str | None, engine: str, tmp_path: Path
) -> None:
    found, target = choose_target(tmp_path / name, backend)
    assert (found.name, target) == (engine, tmp_path / name)


@pytest.mark.parametrize("engine", NAMES)
def test_a_directory_receives_the_usual_name(engine: str, tmp_path: Path) -> None:
    found, target = choose_target(tmp_path, engine)
    assert (found.name, target) == (engine, tmp_path / NAMES[engine])


@pytest.mark.parametrize(
    ("name", "backend", "said"),
    [
        ("a.ckpt", "tensorflow", ["a.ckpt", "'tensorflow'", "--backend", "use .wts.h5.zip"]),
        ("a.wts.h5.zip", "pytorch", ["a.wts.h5.zip", "'pytorch'", "use .ckpt"]),
        ("a.onnx", None, ["a.onnx", ".ckpt (pytorch)", ".wts.h5.zip (tensorflow)"]),
        ("a", "pytorch", ["a", "use .ckpt", "directory"]),
        ("a.ckpt", "jax", ["--backend jax", "pytorch, tensorflow"]),
        (".", None, ["is a directory", "--backend", "pytorch, tensorflow"]),
    ],
)
def test_what_is_unclear_or_contradicts_itself(
    name: str, backend: str | None, said: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_target(tmp_path / name, backend)
    assert all(words in str(caught.value) for words in said), caught.value


def test_engines_that_share_an_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(type(guess_by_name("pytorch"))):  # type: ignore[misc]
        name = "other"

    engines = {"pytorch": guess_by_name("pytorch"), "other": Other()}
    monkeypatch.setattr(conversion, "list_engines", lambda: engines)
    monkeypatch.setattr(registry, "get_engine", engines.__getitem__)
    with pytest.raises(UsageError, match=r"pytorch, other.*--backend"):
        choose_target(tmp_path / "a.ckpt", None)
    assert choose_target(tmp_path / "a.ckpt", "other")[0].name == "other"


def guess_by_name(name: str) -> Engine:
    return registry.get_engine(name)


# ---- what is there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "said"), [("none.ckpt", "does not exist"), (".", "is a directory")])
def test_without_a_model(name: str, said: str, tmp_path: Path, capsys: Capture) -> None:
    error = fails(2, capsys, "-i", tmp_path / name, "-o", tmp_path / "a.wts.h5.zip")
    assert said in error
    assert str(tmp_path / name) in error


def test_a_file_that_is_no_model(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "notes.ckpt").write_text("not a model")
    error = fails(1, capsys, "-i", tmp_path / "notes.ckpt", "-o", tmp_path / "a.wts.h5.zip")
    assert "notes.ckpt" in error
    assert not (tmp_path / "a.wts.h5.zip").exists()


def test_onto_itself_and_into_the_same_engine(model: Path, tmp_path: Path, capsys: Capture) -> None:
    before = model.read_bytes()
    assert "is to be converted" in fails(2, capsys, "-i", model, "-o", model)
    error = fails(2, capsys, "-i", model, "-o", tmp_path / model.name)
    assert "nothing to convert" in error
    assert model.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def other(model: Path) -> str:
    """The engine that has not written ``model``."""
    writer = guess_engine(model).name
    (other,) = set(NAMES) - {writer}
    if registry.get_engine(other).problem() is not None:
        pytest.skip(f"needs the engine {other}")
    return other


def test_a_target_that_cannot_be_written(model: Path, other: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("in the way")
    error = fails(1, capsys, "-i", model, "-o", tmp_path / "file" / NAMES[other])
    assert str(tmp_path / "file") in error
    assert "-o" in error


def test_a_child_that_dies_is_an_error(
    model: Path, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(conversion, "MODULE", "no_such_module")
    error = fails(1, capsys, "-i", model, "-o", tmp_path / NAMES[other])
    assert "exit code 1" in error
    assert "no_such_module" in error


def test_an_error_of_the_child_is_its_own(
    model: Path, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    # an interpreter in which the framework cannot be found
    module = {"pytorch": "torch", "tensorflow": "tensorflow"}[other]
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    error = fails(1, capsys, "-i", model, "-o", tmp_path / NAMES[other])
    assert "unavailable" in error
    assert f'pip install "ptychopinn-ptychodus[{module}]"' in error
    assert not (tmp_path / NAMES[other]).exists()


# ---- the work ---------------------------------------------------------------------------------------------


def test_there_and_back(
    command: Command, model: Path, other: str, scan: Path, tmp_path: Path, demonstration: tuple[Path, object]
) -> None:
    writer = guess_engine(model).name
    done = command("convert", "-i", model, "-o", tmp_path, "--backend", other)
    assert done.returncode == 0, done.stderr
    converted = tmp_path / NAMES[other]
    for words in (str(model), str(converted), "N = 64", "gridsize = 2", "unrolled"):
        assert words in done.stdout
    assert guess_engine(converted).name == other

    back = tmp_path / "back" / NAMES[writer]
    done = command("convert", "-i", converted, "-o", back)
    assert done.returncode == 0, done.stderr
    first, last = read_model(model), read_model(back)
    assert first.description.model == last.description.model
    assert first.description.data == last.description.data
    assert first.description.history == last.description.history
    assert set(first.arrays) == set(last.arrays)
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(last.arrays[name], array)

    # and the other engine predicts the same
    result = tmp_path / "result"
    source = demonstration[0] / "scan"
    done = command("reconstruct", "-i", source, "-o", result, "-m", converted)
    assert done.returncode == 0, done.stderr
    expected = load_product(demonstration[0] / "result" / "network.h5").object_.get_layer(0)
    found = load_product(result / "network.h5").object_.get_layer(0)
    np.testing.assert_allclose(found, expected, atol=1e-3)
