"""What the benchmark scripts share: Markdown tables, and jobs in fresh processes.

Standard library only: a child's peak memory counts from its parent's, so the parent has to stay small.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ptychopinn_ptychodus.installed import version

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def use_one_thread() -> None:
    """Before numpy or a framework is imported: threads on a shared machine cost more CPU than they save."""
    os.environ.update(dict.fromkeys(THREADS, "1"))


def print_header(packages: Sequence[str], threads: str = "One thread") -> None:
    """The command that made what follows, and the machine that it ran on."""
    script = Path(sys.argv[0]).resolve()
    name = f"{script.parent.name}/{script.name}"
    if script.name == "__main__.py":  # of a package, which runs as a module
        name = f"-m {script.parent.parent.name}.{script.parent.name}"
    command = " ".join(["python", name, *sys.argv[1:]])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"`{command}`\n")
    print(f"{threads} on {_processor()}, {os.cpu_count()} cores, load {load}; {versions}.")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    # virtual machines hide the name; what instructions there are decides the speed of convolutions
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    widest = max((flag for flag in flags if flag in ("avx2", "avx512f")), default="no AVX2")
    return f"{names[0] if names else platform.machine()} ({widest})"


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str = "") -> None:
    """A Markdown table, row by row as they are made; ``rows`` may be a generator that measures them."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)
    if note:
        print(f"\n{note}")


def cpu_seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of one call, all threads of this process."""
    start = time.process_time()
    function()
    return time.process_time() - start


def alternated(functions: Sequence[Callable[[], Any]], budget: float, at_least: int = 2) -> list[float]:
    """Median CPU seconds of each function, called in turn until ``budget`` CPU seconds are spent.

    Called in turn, they meet the same neighbours on a shared machine: their ratio is worth more than they.
    """
    times: list[list[float]] = [[] for _ in functions]
    start = time.process_time()
    while len(times[0]) < at_least or time.process_time() - start < budget:
        for function, spent in zip(functions, times, strict=True):
            spent.append(cpu_seconds(function))
    return [median(spent) for spent in times]


def peak_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def in_fresh_process(arguments: Sequence[str]) -> dict[str, Any]:
    """Run this Python with ``arguments``; the JSON object on the last line that it prints."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"{arguments} ended with {run.returncode}:\n{run.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result
