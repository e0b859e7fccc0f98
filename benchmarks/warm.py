"""What a process that stays saves the next run: seconds to the first patches, and to the object.

    python benchmarks/warm.py SCAN MODEL... [--runs N]

SCAN is a standard directory, and each MODEL a model file of any engine. Of each model, the first run begins
in a new process, and the others in the one that the run before has left. The verdict is left out, and so is
the refinement unless ``--refine`` is given.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from statistics import median

from _tables import print_header, print_table, use_one_thread

from ptychopinn_ptychodus import (
    ExaminationConfig,
    Model,
    Observer,
    RawData,
    RefinementConfig,
    open_model,
    reconstruct,
    warm_worker,
)
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory


class First(Observer):
    """When the first batch of patches was there."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.seconds = float("nan")

    def on_progress(self, fraction: float) -> None:
        if self.seconds != self.seconds:  # not a number yet
            self.seconds = time.monotonic() - self._begun


def measure(scan: RawData, model: Model, *, refine: bool) -> tuple[float, float]:
    """Seconds to the first patches, and to the object."""
    first = First()
    begun = time.monotonic()
    reconstruct(
        scan,
        model,
        refinement=RefinementConfig() if refine else None,
        examination=ExaminationConfig(judge=False),
        observer=first,
    )
    return first.seconds, time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=5, help="runs after the first one")
    parser.add_argument("--refine", action="store_true")
    arguments = parser.parse_args()
    use_one_thread()
    scan = read_standard_directory(arguments.scan)
    print_header(("ptychopinn-ptychodus", "torch", "keras"))
    rows = []
    for path in arguments.models:
        model = open_model(path)
        with warm_worker() as worker:
            cold = measure(scan, model, refine=arguments.refine)
            warm = [measure(scan, model, refine=arguments.refine) for _ in range(arguments.runs)]
            rests = Path(f"/proc/{worker.pid}/statm").read_text().split()[1]
        rows.append(
            (
                model.description.engine,
                *(f"{seconds:.2f}" for seconds in cold),
                *(f"{median(run[i] for run in warm):.2f}" for i in (0, 1)),
                f"{int(rests) * resource.getpagesize() / 1e6:.0f}",
            )
        )
    print_table(
        f"{scan.n_patterns} patterns of {scan.N} × {scan.N}: seconds from the call",
        (
            "engine",
            "first patches, new",
            "object, new",
            "first patches, warm",
            "object, warm",
            "MB that wait",
        ),
        rows,
        f"Warm: medians of {arguments.runs} runs. The last column is the resident memory between two runs.",
    )


if __name__ == "__main__":
    main()
