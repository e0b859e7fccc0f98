"""The real window on a display that nobody sees: the tour, and what happens when things go wrong."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DISPLAY = ("xvfb-run", "-a", "-s", "-screen 0 1280x900x24")
WAIT_S, SCRIPT_S = 300, 1200
"""For each wait of the tour, and for a whole script: the former says what was waited for."""

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


def run_on_a_display(home: Path, *command: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command of Python on a display of its own.

    xvfb-run, its display, the command and what that has started are a group, which ends as one.
    """
    process = subprocess.Popen(
        [*DISPLAY, sys.executable, *command],
        env={**os.environ, "HOME": str(home), "QT_QPA_PLATFORM": "xcb"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=SCRIPT_S)
    except BaseException as exc:  # the time limit, or somebody who interrupts the tests
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        if not isinstance(exc, subprocess.TimeoutExpired):
            raise
        pytest.fail(f"It did not end within {SCRIPT_S} s:\n{output[-2000:]}{errors[-4000:]}", pytrace=False)
    return process.returncode, output, errors


@pytest.fixture(scope="session", autouse=True)
def _qt_starts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where a system library that Qt needs is missing; whatever fails after this is a fault of ours."""
    start = "from PyQt5.QtWidgets import QApplication; QApplication([])"
    code, _, errors = run_on_a_display(tmp_path_factory.mktemp("home"), "-c", start)
    if code != 0:
        pytest.skip(f"Qt does not start on a display here: {errors.strip()[-500:]}")


def on_a_display(tmp_path: Path, script: str, *arguments: str) -> str:
    """Run a script that drives the window; what it has printed."""
    code, output, errors = run_on_a_display(tmp_path, str(HERE / script), *arguments)
    print(output)  # figures
    assert code == 0, output[-2000:] + errors[-4000:]
    return output


@needs_torch
def test_the_tour(tmp_path: Path) -> None:
    # two epochs: after the last one, nothing of the training would be left to look at
    options = [
        "--engine",
        "pytorch",
        "--epochs",
        "2",
        "--patterns",
        "48",
        "--timeout",
        str(WAIT_S),
        "--plain",
    ]
    on_a_display(tmp_path, "make_screenshots.py", str(tmp_path / "shots"), *options)
    assert len(list((tmp_path / "shots").glob("*.png"))) == 15


def test_a_scan_that_is_recorded(tmp_path: Path) -> None:
    on_a_display(tmp_path, "make_live.py", str(tmp_path / "shots"))
    assert len(list((tmp_path / "shots").glob("*.png"))) == 5


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
def test_when_things_go_wrong(tmp_path: Path, scenario: str, pictures: int) -> None:
    on_a_display(tmp_path, "make_failures.py", scenario, str(tmp_path / "shots"))
    assert len(list((tmp_path / "shots").glob("*.png"))) == pictures
