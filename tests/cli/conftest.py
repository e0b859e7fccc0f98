"""A small simulated scan as a Ptychodus standard directory, and a demo with its model; both are read-only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from cli_support import SOONEST, Command, Done
from shared_support import made_once

from ptychopinn_ptychodus.cli import demo

POSITIONS = 5
SMALL = [
    "PtychoPINNPluginTraining.Epochs=1",
    "PtychoPINNPluginModel.NumFiltersScale=1",
    f"PtychoPINNPluginModel.Backend={SOONEST}",
]

# What the command's script does, and then a look at what it has imported.
_PROGRAM = """
import sys
from ptychopinn_ptychodus.cli import main
code = main(sys.argv[1:])
assert not {"torch", "lightning", "tensorflow", "keras"} & set(sys.modules), "a framework in the parent"
sys.exit(code)
"""


@pytest.fixture(scope="session")
def command() -> Command:
    """Runs the command in a process of its own, and fails if that process imports a framework."""

    def run(*arguments: object) -> Done:
        return subprocess.run(
            [sys.executable, "-c", _PROGRAM, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def interrupted() -> Command:
    """Runs the command until it has left a checkpoint in a directory, and then presses Ctrl-C."""

    def run(arguments: Sequence[object], directory: Path, *, within_s: float) -> Done:
        process = subprocess.Popen(
            [sys.executable, "-m", "ptychopinn_ptychodus.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell has what it starts in the background ignore Ctrl-C, and that is inherited
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            deadline = time.monotonic() + within_s
            while not list(directory.glob("checkpoints/best*")) and time.monotonic() < deadline:
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=within_s)
        finally:
            process.kill()
        return Done(process.args, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Arguments that keep a run short."""
    return [part for setting in SMALL for part in ("--set", setting)]


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """diffraction.h5 and product.h5."""
    directory = tmp_path_factory.mktemp("scan")
    demo.write_standard_directory(demo.simulate(POSITIONS), directory)
    return directory


@pytest.fixture(scope="session")
def demonstration(command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """Where a small demo left its files, and what it said."""

    def make(directory: Path) -> None:
        done = command("demo", "--quick", "--epochs", 1, "-o", directory / "demo")
        said = {
            "args": done.args,
            "returncode": done.returncode,
            "stdout": done.stdout,
            "stderr": done.stderr,
        }
        (directory / "done.json").write_text(json.dumps(said))

    directory = made_once(tmp_path_factory, "demonstration", make)
    return directory / "demo", Done(**json.loads((directory / "done.json").read_text()))


@pytest.fixture(scope="session")
def extension() -> str:
    """That of the models of the engine that is taken where nothing is set."""
    return ".wts.h5.zip" if find_spec("tensorflow") else ".ckpt"


@pytest.fixture
def model(demonstration: tuple[Path, Done], extension: str) -> Path:
    path = demonstration[0] / "scan" / f"model{extension}"
    assert path.is_file(), demonstration[1].stderr
    return path
