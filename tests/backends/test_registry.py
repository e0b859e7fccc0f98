"""Engines by name; a third party's and a broken one among them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ptychopinn_ptychodus.backends import registry
from ptychopinn_ptychodus.backends.base import Engine


def test_installed_engine_is_listed_and_loaded_once() -> None:
    assert "pytorch" in registry.list_engines()
    engine = registry.get_engine("pytorch")
    assert isinstance(engine, Engine)
    assert registry.get_engine("pytorch") is engine


def test_unknown_engine_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'jax'.*'pytorch'"):
        registry.get_engine("jax")


def test_broken_engine_is_named_and_hurts_no_other(tmp_path: Path) -> None:
    """In a fresh process, with a distribution that brings an engine which cannot be imported."""
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ptychopinn_ptychodus.backends]\nabacus = no_such_module:Engine\n"
    )
    (tmp_path / "some.ckpt").write_bytes(b"not a model")
    code = (
        "import sys; from pathlib import Path; from ptychopinn_ptychodus.backends import registry\n"
        "print(sorted(registry.list_engines()))\n"
        "try: registry.get_engine('abacus')\n"
        "except RuntimeError as exc: print(exc)\n"
        "print(registry.get_engine('pytorch').name)\n"
        f"try: registry.guess_engine(Path({str(tmp_path / 'some.ckpt')!r}))\n"
        "except ValueError as exc: print(exc)\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    listed, error, other, guess = result.stdout.splitlines()
    assert "abacus" in listed
    assert "'abacus'" in error
    assert "no_such_module" in error
    assert other == "pytorch"
    assert "some.ckpt" in guess
    assert "abacus" in result.stderr
