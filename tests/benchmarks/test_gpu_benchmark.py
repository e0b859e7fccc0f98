"""The script that says whether a GPU computes what it should, on whatever device there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

PRETENDING = """
import sys
import gpu

differences = {differences}
gpu.child = lambda what, *arguments: {{"best": "cpu", "name": "none"}} if what == "devices" else differences
sys.argv = ["gpu.py", "--quick"]
gpu.main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python in the directory of the benchmarks."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=300, check=False)


def test_every_check_runs_and_is_right() -> None:
    pytest.importorskip("lightning")
    done = run("gpu.py", "--quick", "--tables", "correctness")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.endswith("| yes |")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "patches",
        "gradients",
        "assembly",
        "refinement",
    ]


@pytest.mark.parametrize("difference", ["0.5", 'float("nan")'])
def test_what_is_wrong_ends_it_by_name(difference: str) -> None:
    done = run("-c", PRETENDING.format(differences=f'{{"refinement": {difference}}}'))
    assert done.returncode == 1
    assert "nothing else is measured" in done.stderr
    assert "refinement (N = 64" in done.stderr


def test_without_a_gpu_no_speed_is_measured() -> None:
    done = run("-c", PRETENDING.format(differences='{"refinement": 0.0}'))
    assert done.returncode == 0, done.stderr
    assert "There is no GPU" in done.stdout
    assert done.stdout.count("###") == 1
