"""The real window on a display that nobody sees: the tour, and what happens when things go wrong."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("PyQt5") is None, reason="needs PyQt5 (extra gui)"),
    pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="needs xvfb-run"),
    pytest.mark.skipif(
        importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None,
        reason="needs the installed package: pip install -e . places the file that Ptychodus finds",
    ),
]

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs PyTorch (extra torch)"
)


def on_a_display(tmp_path: Path, script: str, *arguments: str) -> str:
    """Run a script that drives the window; what it has printed."""
    display = ["xvfb-run", "-a", "-s", "-screen 0 1280x900x24"]
    done = subprocess.run(
        [*display, sys.executable, str(HERE / script), *arguments],
        env={**os.environ, "HOME": str(tmp_path), "QT_QPA_PLATFORM": "xcb"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "Could not load the Qt platform plugin" in done.stderr or "ImportError: lib" in done.stderr:
        pytest.skip("Qt cannot be started on a display here: a system library is missing")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@needs_torch
def test_the_tour(tmp_path):
    options = ["--engine", "pytorch", "--epochs", "1", "--patterns", "48"]
    on_a_display(tmp_path, "make_screenshots.py", str(tmp_path / "shots"), *options)
    assert len(list((tmp_path / "shots").glob("*.png"))) == 14


@pytest.mark.parametrize(
    ("scenario", "pictures"),
    [
        ("no-framework", 2),
        ("killed", 1),
        pytest.param("full-disk", 2, marks=needs_torch),
        pytest.param("wrong-model", 6, marks=needs_torch),
        ("no-model", 1),
        ("closing", 0),
        ("two-cores", 0),
        ("other-plugins", 3),
    ],
)
def test_when_things_go_wrong(tmp_path, scenario, pictures):
    on_a_display(tmp_path, "make_failures.py", scenario, str(tmp_path / "shots"))
    assert len(list((tmp_path / "shots").glob("*.png"))) == pictures
