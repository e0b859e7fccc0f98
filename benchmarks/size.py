"""Refinement against the size of a scan: quality, time and memory, each size in a fresh process.

    python benchmarks/size.py [--patterns N ...] [--alone N ...] [--kind NAME] [--seed S] [--images DIR]

Scans of one kind of the collection (``benchmarks/zoo``), as many patterns as asked for, are made and refined
by defaults from a flat object. ``--alone`` names the sizes at which the epochs of batches are also left to
themselves, without the steps on the whole scan that follow them. Exponents are of a fit of all sizes to a
power of the number of patterns. With ``--images``, pictures of the results are left there.

100,000 patterns of 64 × 64 are 1.6 GB, and 3.2 GB while they are made. What a process has free
from making a scan is used again, so that peaks of small scans are too small.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from _tables import in_fresh_process, peak_mb, print_header, print_table, use_one_thread

use_one_thread()

SIZES = [1600, 4900, 19_600, 50_000, 100_000]
ALONE = [1600, 4900, 19_600]
COLUMNS = (
    "patterns",
    "steps",
    "correlation",
    "amplitude SSIM",
    "phase SSIM",
    "CPU s",
    "s per 1,000",
    "patterns, MB",
    "peak beyond them, MB",
    "the object itself, MB",
)


# ---- the child --------------------------------------------------------------------------------------------


def refined(kind: str, patterns: int, seed: int, alone: bool, image: str) -> dict[str, Any]:
    """Make one scan and refine it."""
    import contextlib
    from dataclasses import replace

    from zoo.kinds import KINDS
    from zoo.make import make
    from zoo.pictures import draw
    from zoo.results import Found, scores

    from ptychopinn_ptychodus.refinement import RefinementConfig
    from ptychopinn_ptychodus.refinement.ending import Ending
    from ptychopinn_ptychodus.refinement.solver import refine

    scan = make(replace(KINDS[kind], count=patterns), seed)
    raw = scan.raw
    assert raw.objectGuess is not None
    _ = raw.incident_photons  # is part of reading a scan
    left_out = (
        mock.patch.object(Ending, "solve_object", return_value=None) if alone else contextlib.nullcontext()
    )
    forget_peak()
    before, begin = resident_mb(), time.process_time()
    with left_out:
        found = refine(raw, raw.objectGuess, raw.probeGuess, RefinementConfig(), device="cpu", quiet=True)
    seconds, peak = time.process_time() - begin, peak_mb_since()
    result = Found(found.object, found.probe, found.positions, seconds)
    if image:
        draw(scan, found.object, found.probe, Path(image))
    return {
        **scores(scan, result),
        "patterns": raw.n_patterns,
        "megabytes": raw.diff3d.nbytes / 1e6,
        "canvas": found.object.nbytes / 1e6,
        "beyond": peak - before,
        "cpu": seconds,
    }


def forget_peak() -> None:
    """Let the largest resident memory be what it is now, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("The peak of memory is that of the whole process here.", file=sys.stderr)


def peak_mb_since() -> float:
    """Largest resident memory since :func:`forget_peak`."""
    return _status("VmHWM") or peak_mb()


def resident_mb() -> float:
    """Resident memory now, 0 where the system does not tell."""
    return _status("VmRSS")


def _status(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name)), 0.0)


# ---- the table --------------------------------------------------------------------------------------------


def rows(options: argparse.Namespace, found: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """One size after the other; what the default gave is added to ``found``."""
    for patterns in options.patterns:
        for alone in (True, False) if patterns in options.alone else (False,):
            name = f"{options.kind}_{patterns}{'_alone' if alone else ''}.png"
            image = str(options.images / name) if options.images else ""
            job = json.dumps([options.kind, patterns, options.seed, alone, image])
            row = in_fresh_process([__file__, "--job", job])
            if not alone:
                found.append(row)
            yield (
                f"{row['patterns']:,}",
                "of batches alone" if alone else "all",
                f"{row['corr']:.4f}",
                f"{row['amplitude']:.3f}",
                f"{row['phase']:.3f}",
                f"{row['cpu']:.0f}",
                f"{1e3 * row['cpu'] / row['patterns']:.2f}",
                f"{row['megabytes']:.0f}",
                f"{row['beyond']:.0f}",
                f"{row['canvas']:.1f}",
            )


def exponent(found: list[dict[str, Any]], name: str) -> float:
    """Of a fit of ``name`` to a power of the number of patterns, least squares of the logarithms."""
    import numpy as np

    sizes, values = (np.log([row[key] for row in found]) for key in ("patterns", name))
    return float(np.polyfit(sizes, values, 1)[0])


def main() -> None:
    """Measure what the options ask for, or do one job of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patterns", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--alone", type=int, nargs="*", default=ALONE, metavar="N")
    parser.add_argument("--kind", default="usual")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(refined(*json.loads(options.job))))
        return
    if options.images:
        options.images.mkdir(parents=True, exist_ok=True)
    print_header(["numpy", "scipy"])
    found: list[dict[str, Any]] = []
    print_table(
        f"Refinement of scans like '{options.kind}', seed {options.seed}", COLUMNS, rows(options, found)
    )
    if len(found) > 1:
        print(
            f"\nFrom {found[0]['patterns']:,} to {found[-1]['patterns']:,} patterns, CPU time grows as their "
            f"number to the power {exponent(found, 'cpu'):.3f}, and the peak of memory beyond them to the "
            f"power {exponent(found, 'beyond'):.3f}."
        )


if __name__ == "__main__":
    main()
