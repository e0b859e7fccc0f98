"""The refinement's defaults on simulated scans of many kinds, each scored against its truth.

    python -m benchmarks.zoo [--kinds NAME ...] [--seed 1] [--epochs 10] [--results FILE.jsonl]
        [--images DIR] [--peer PYTHON [--settings NAME ...]] [--jobs 1]

Each kind of ``kinds.py`` is refined from a flat object and the product's probe. A tenth more are drawn from a
reserved seed, which nothing is to be tuned on, and shown apart; ``--kinds`` with names leaves them out.
``--results`` keeps one line a scan: what it has already is not measured again. ``--images`` draws each result
beside the truth, with its power spectrum: look at them. ``--jobs`` scans are worked on at a time.

``--peer`` is a Python with pty-chi. Its LSQ-ML starts from the same, with its own defaults and with other
settings, those of ``lsqml.py`` or some of them; a second table has the scores of its defaults, and of
whichever setting was best for the kind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

# A module of a package has its package on the path, and not the scripts' directory, as they have.
sys.path.insert(0, str(Path(__file__).parents[1]))

from _tables import print_header, print_table, use_one_thread

use_one_thread()

from ptychopinn_ptychodus.refinement import RefinementConfig

from .jobs import Job, Results
from .kinds import KINDS, drawn_kinds
from .lsqml import SETTINGS

RESERVED_SEED = 77003
"""Of the kinds that are drawn, and of their scans: nothing is to be tuned on them."""

COLUMNS = ("kind", "corr", "amp SSIM", "phase SSIM", "probe", "positions px", "residual", "CPU s")
BESIDE = ("kind", "corr", "amp SSIM", "phase SSIM", "its best", "CPU, of LSQ-ML's")
SCORES = ("corr", "amplitude", "phase")


def rows(results: Results, jobs: list[Job]) -> Iterator[list[str]]:
    """Cells of the table of the refinement."""
    for job in jobs:
        one = results[job]
        cells = [f"{one[key]:.4f}" for key in (*SCORES, "probe")]
        yield [job.name, *cells, f"{one['positions']:.2f}", f"{one['residual']:.5f}", f"{one['cpu']:.1f}"]


def rows_beside(results: Results, jobs: list[Job], settings: list[str]) -> Iterator[list[str]]:
    """Cells of the table beside the peer: each score by the refinement, the peer's defaults, and its best."""
    for job in jobs:
        ours = results[job]
        theirs = {way: results[replace(job, way=way)] for way in settings}
        best = max(theirs, key=lambda way: theirs[way]["corr"])
        compared = (ours, theirs[settings[0]], theirs[best])
        cells = [" / ".join(f"{one[key]:.3f}" for one in compared) for key in SCORES]
        yield [job.name, *cells, best, f"{ours['cpu'] / compared[1]['cpu']:.2f}"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=RefinementConfig().epochs)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    print_header(("numpy", "scipy"))
    seed, epochs = arguments.seed, arguments.epochs
    tables = {f"Kinds, seed {seed}": [Job(n, KINDS[n], seed, epochs) for n in arguments.kinds or KINDS]}
    if arguments.kinds is None:
        drawn = drawn_kinds(RESERVED_SEED, round(0.1 * len(KINDS)))
        tables["Drawn"] = [Job(name, kind, RESERVED_SEED, epochs) for name, kind in drawn.items()]
    settings = arguments.settings if arguments.peer is not None else []
    jobs = [job for listed in tables.values() for job in listed]
    jobs += [replace(job, way=way) for way in settings for job in jobs]
    results = Results(jobs, arguments.results, arguments.peer, arguments.images, arguments.jobs)
    for title, listed in tables.items():
        print_table(title, COLUMNS, rows(results, listed))
        if settings:
            print_table(
                f"{title}: refinement / LSQ-ML / its best", BESIDE, rows_beside(results, listed, settings)
            )


if __name__ == "__main__":
    main()
