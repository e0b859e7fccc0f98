"""The command line itself: usage, exit codes, and how little it costs to ask for help."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ptychopinn_ptychodus
from ptychopinn_ptychodus.cli import main


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    program = (
        "import sys, time\nfrom ptychopinn_ptychodus.cli import main\nmain(['--help'])\n"
        "heavy = {'numpy', 'ptychodus', 'rich', 'matplotlib', 'torch', 'keras', 'skimage'}\n"
        "heavy &= set(sys.modules)\nprint(time.process_time())\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout
    # seconds of the processor, not of the clock: the machine may be busy with something else
    assert float(done.stdout.splitlines()[-1]) < 0.5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert ptychopinn_ptychodus.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["train"],
        ["train", "-i", "x"],
        ["convert", "-i", "x"],
        ["demo", "--epochs", "0"],
        ["demo", "--epochs", "two"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "usage:" in said.out + said.err


@pytest.mark.parametrize("command", ["demo", "doctor", "train", "reconstruct", "export", "convert"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"ptychopinn-ptychodus {command}" in capsys.readouterr().out
