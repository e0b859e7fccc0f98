"""Entry points and versions are read in one place, by a package that is declared."""

from __future__ import annotations

import tomllib
from pathlib import Path

import importlib_metadata
import pytest

import ptychopinn_ptychodus
from ptychopinn_ptychodus import installed

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_versions_and_entry_points_are_those_of_importlib_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.version("numpy") == importlib_metadata.version("numpy")
    assert installed.entry_points is importlib_metadata.entry_points
    with pytest.raises(installed.PackageNotFoundError):
        installed.version("a-package-that-is-not-installed")
    assert ptychopinn_ptychodus.__version__


def test_importlib_metadata_is_a_dependency_of_the_core() -> None:
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [requirement.split(">=")[0] for requirement in declared]
    assert "importlib-metadata" in names
