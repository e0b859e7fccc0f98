"""What it costs and brings that the threads of a worker spin briefly, then sleep, when they wait.

    python benchmarks/waiting.py --data DATA [--epochs N] [--rounds N]

``DATA`` holds the scan ``synthetic`` as a Ptychodus standard directory. Both engines train on it with as
many threads as the frameworks choose, whose threads wait as those of workers do, without any spinning
(``OMP_WAIT_POLICY=PASSIVE`` alone), and as the frameworks wait by themselves, in turn; first on the machine
as it is, then beside as many busy processes as there are cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from _tables import in_fresh_process, print_header, print_table

from ptychopinn_ptychodus.worker.interpreter import WAIT_POLICY, WAITING

ENGINES = ("pytorch", "tensorflow")
ENVIRONMENTS = {"worker": WAITING, "no spinning": {WAIT_POLICY: "PASSIVE"}, "by themselves": {}}


def run(scan: str, backend: str, epochs: str, way: str) -> dict[str, float]:
    """Train as the command line does; wall and CPU seconds with the worker."""
    from _scans import cpu

    from ptychopinn_ptychodus.cli import main as command_line
    from ptychopinn_ptychodus.worker import interpreter

    interpreter.WAITING = ENVIRONMENTS[way]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as output:
        changes = (f"Training.Epochs={epochs}", f"Model.Backend={backend}")
        options = [text for change in changes for text in ("--set", f"PtychoPINNPlugin{change}")]
        with contextlib.redirect_stdout(sys.stderr):
            code = command_line(["train", "-i", scan, "-o", output, *options])
    if code:
        raise RuntimeError(f"the training ended with exit code {code}")
    return {"wall": time.monotonic() - started, "cpu": cpu()}


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """That many other processes, each of which keeps a core busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def rows(scan: Path, epochs: int, rounds: int) -> Iterator[tuple[str, ...]]:
    for others in (0, os.cpu_count() or 1):
        for backend in ENGINES:
            runs: dict[str, list[dict[str, float]]] = {way: [] for way in ENVIRONMENTS}
            with busy(others):
                for _ in range(rounds):
                    for way, results in runs.items():
                        results.append(
                            in_fresh_process([__file__, "--child", str(scan), backend, str(epochs), way])
                        )
            cells = []
            for quantity in ("wall", "cpu"):
                each = [median(run[quantity] for run in results) for results in runs.values()]
                cells += [f"{value:.1f}" for value in each] + [f"{each[0] / each[-1]:.2f}"]
            yield (str(others), backend, *cells)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(run(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if present := WAITING.keys() & os.environ.keys():
        sys.exit(f"{present} is set: workers leave it as it is. Unset it, then run this again.")
    print_header(
        ("ptychopinn-ptychodus", "torch", "tensorflow-cpu"), threads="Threads as the frameworks choose"
    )
    print_table(
        "Threads of a worker that wait",
        (
            "busy processes beside it",
            "engine",
            *(
                cell
                for quantity in ("wall s", "CPU s")
                for cell in (*(f"{quantity}, {way}" for way in ENVIRONMENTS), "ratio of first and last")
            ),
        ),
        rows(arguments.data / "synthetic", arguments.epochs, arguments.rounds),
        f"{arguments.epochs} epochs, median of {arguments.rounds} runs each way, in turn; imports included.",
    )


if __name__ == "__main__":
    main()
