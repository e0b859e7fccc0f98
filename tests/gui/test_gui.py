"""The tour of the real window, from loading a scan to saving a model, where there is a display to be had."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("PyQt5") is None, reason="needs PyQt5 (extra gui)"),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch (extra torch)"),
    pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="needs xvfb-run"),
    pytest.mark.skipif(
        importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None,
        reason="needs the installed package: pip install -e . places the file that Ptychodus finds",
    ),
]


def test_the_tour(tmp_path):
    script = Path(__file__).with_name("make_screenshots.py")
    options = ["--engine", "pytorch", "--epochs", "1", "--patterns", "48"]
    display = ["xvfb-run", "-a", "-s", "-screen 0 1280x900x24"]
    done = subprocess.run(
        [*display, sys.executable, str(script), str(tmp_path / "shots"), *options],
        env={**os.environ, "HOME": str(tmp_path), "QT_QPA_PLATFORM": "xcb"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "Could not load the Qt platform plugin" in done.stderr or "ImportError: lib" in done.stderr:
        pytest.skip("Qt cannot be started on a display here: a system library is missing")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert len(list((tmp_path / "shots").glob("*.png"))) == 13
