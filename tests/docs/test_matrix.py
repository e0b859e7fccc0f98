"""The matrix of Ptychodus versions sees what an uninstall leaves behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import matrix


@pytest.fixture
def environment(tmp_path: Path) -> matrix.Environment:
    environment = matrix.Environment("1.7.0", tmp_path)
    for name in ("env/site/ptychodus/core.py", "env/site/ptychodus/__pycache__/core.pyc", "home/.profile"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return environment


@pytest.mark.parametrize(
    "name",
    [
        "env/site/ptychodus/plugins/ptychopinn_ptychodus_attach.py",
        "env/site/ptychodus/plugins/__pycache__/ptychopinn_ptychodus_attach.pyc",
        "env/site/ptychodus/core.py",  # changed
        "home/.config/left.ini",
    ],
)
def test_what_is_left_is_named(environment: matrix.Environment, name: str) -> None:
    before = matrix.files_of(environment)
    path = environment.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("left behind, or changed")
    assert matrix.left_behind(before, matrix.files_of(environment)) == [str(path)]


def test_what_is_gone_is_named(environment: matrix.Environment) -> None:
    before = matrix.files_of(environment)
    path = environment.directory / "env/site/ptychodus/core.py"
    path.unlink()
    assert matrix.left_behind(before, matrix.files_of(environment)) == [str(path)]


def test_an_empty_directory_is_left_behind(environment: matrix.Environment) -> None:
    before = matrix.files_of(environment)
    path = environment.directory / "env/site/ptychopinn_ptychodus"
    path.mkdir()
    assert [name.rstrip("/") for name in matrix.left_behind(before, matrix.files_of(environment))] == [
        str(path)
    ]


def test_bytecode_of_others_and_the_log_are_of_no_account(environment: matrix.Environment) -> None:
    before = matrix.files_of(environment)
    (environment.directory / "env/site/ptychodus/__pycache__/other.pyc").write_text("compiled since")
    (environment.directory / "log.txt").write_text("ours")
    assert matrix.left_behind(before, matrix.files_of(environment)) == []


def test_a_reconstructor_that_is_missing_is_a_fault() -> None:
    names = sorted(matrix.KEYS)
    assert matrix.listed_cell({"reconstructors": names, "frameworks": []}).good
    assert not matrix.listed_cell({"reconstructors": names[:1], "frameworks": []}).good
    assert not matrix.listed_cell({"reconstructors": names, "frameworks": ["torch"]}).good
    assert not matrix.listed_cell({"error": "exit 1"}).good
