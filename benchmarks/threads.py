"""What refinement gains by two threads, and what they cost on a busy machine.

    python benchmarks/threads.py --data DATA [--epochs N] [--rounds N] [--scans NAME ...]

``DATA`` holds Ptychodus standard directories: ``synthetic``, of 64 × 64 pixels, and ``siemens_star``, of
128 × 128. Each is refined from a flat object with one thread and with two, in turn, in processes of their own
with the environment of a worker; then two such processes of two threads each run at once, which is one more
than two cores have room for. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from _tables import THREADS, print_header, print_table

from ptychopinn_ptychodus.worker.interpreter import child_environment

SCANS = ("synthetic", "siemens_star")
AT_ONCE = 2


def refine_once(scan: str, epochs: str) -> dict[str, Any]:
    """Wall and CPU seconds of one refinement, without reading and imports, and what it found."""
    import numpy as np

    from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory
    from ptychopinn_ptychodus.refinement import RefinementConfig
    from ptychopinn_ptychodus.refinement.solver import refine

    warnings.simplefilter("ignore")
    raw = read_standard_directory(Path(scan))
    assert raw.probeGuess is not None
    assert raw.objectGuess is not None
    wall, cpu = time.monotonic(), time.process_time()
    found = refine(
        raw,
        np.ones(raw.objectGuess.shape, np.complex64),
        raw.probeGuess,
        RefinementConfig(epochs=int(epochs)),
        device="cpu",
        quiet=True,
    )
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    digest = hashlib.sha256(found.object.tobytes()).hexdigest()
    return {"wall": wall, "cpu": cpu, "N": raw.N, "patterns": raw.n_patterns, "digest": digest}


def started(scan: Path, epochs: int, threads: int) -> subprocess.Popen[str]:
    environment = {name: value for name, value in child_environment().items() if name not in THREADS}
    environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", str(scan), str(epochs)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    output = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"a refinement ended with {process.returncode}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def rows(data: Path, names: list[str], epochs: int, rounds: int) -> Iterator[tuple[str, ...]]:
    for name in names:
        runs: dict[str, list[dict[str, Any]]] = {"one": [], "two": [], "busy": []}
        for _ in range(rounds):
            runs["one"].append(result(started(data / name, epochs, 1)))
            runs["two"].append(result(started(data / name, epochs, 2)))
            together = [started(data / name, epochs, 2) for _ in range(AT_ONCE)]
            runs["busy"] += [result(process) for process in together]
        wall = {key: median(run["wall"] for run in found) for key, found in runs.items()}
        cpu = {key: median(run["cpu"] for run in found) for key, found in runs.items()}
        every = [run for found in runs.values() for run in found]
        yield (
            f"{name}, {every[0]['patterns']} of {every[0]['N']} × {every[0]['N']}",
            f"{wall['one']:.2f}",
            f"{wall['two']:.2f}",
            f"{wall['one'] / wall['two']:.2f}",
            f"{cpu['one']:.2f}",
            f"{cpu['two']:.2f}",
            f"{cpu['two'] / cpu['one']:.2f}",
            f"{cpu['busy']:.2f}",
            f"{cpu['busy'] / cpu['two']:.2f}",
            "yes" if len({run["digest"] for run in every}) == 1 else "no",
        )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(refine_once(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scans", nargs="+", default=list(SCANS))
    arguments = parser.parse_args()
    if len(getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)) < AT_ONCE:
        sys.exit("This process may use one core only: two threads gain nothing there.")
    print_header(("ptychopinn-ptychodus", "numpy", "scipy"), threads="One thread and two")
    print_table(
        "Refinement in threads",
        (
            "scan",
            "one thread, s",
            "two, s",
            "times as fast",
            "one thread, CPU s",
            "two, CPU s",
            "ratio",
            f"two, {AT_ONCE} such processes at once, CPU s each",
            "over two alone",
            "objects equal to the bit",
        ),
        rows(arguments.data, arguments.scans, arguments.epochs, arguments.rounds),
        f"{arguments.epochs} epochs, with all that is tried before them; median of {arguments.rounds} runs "
        "each way, in turn.",
    )


if __name__ == "__main__":
    main()
