"""How often a beam is taken for unsteady, of steady and of unsteady ones, and how that depends on overlap.

    python benchmarks/beams.py [--seed S] [--photons P]

Scans of three kinds of objects, 64 patterns of 32 × 32 and 49 of 64 × 64 pixels, each with a seed of its own,
are refined from a flat object, with the right probe and positions, in loops alone. The intensity of each
pattern is that of the beam, which is steady or scatters by 10 or 3 %.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from itertools import count

import numpy as np
from _tables import print_header, print_table, use_one_thread

use_one_thread()

SIZES = {32: 8, 64: 7}  # N, and how many positions there are along an edge
KINDS = ("mixed", "blobs", "lines")
CASES = [
    *((0.0, spacing, epochs) for spacing in (0.1, 0.2, 0.3, 0.4, 0.6) for epochs in (2, 10)),
    *((scatter, spacing, 10) for scatter in (0.1, 0.03) for spacing in (0.1, 0.2, 0.3)),
]
"""Scatter of the beam, positions' spacing in N, epochs."""


def is_told(
    size: int, spacing: float, kind: str, photons: float, scatter: float, epochs: int, seed: int
) -> bool:
    """Whether the beam of one scan is taken for unsteady."""
    from ptychopinn_ptychodus.data.raw import RawData
    from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
    from ptychopinn_ptychodus.refinement import RefinementConfig
    from ptychopinn_ptychodus.refinement.solver import refine
    from ptychopinn_ptychodus.refinement.stages import Stages

    edge = SIZES[size]
    x, y = raster_positions(edge, edge, spacing * size, jitter=0.3, origin=size / 2 + 2, seed=seed)
    extent = int(max(x.max(), y.max()) + size / 2 + 4)
    object_ = make_object((extent, extent), kind, seed=seed)
    scan = simulate_scan(object_, make_probe(size), x, y, photons, seed)
    if scatter:
        rng = np.random.default_rng(seed)
        beam = np.exp(rng.normal(0.0, scatter, len(x)))
        counts = rng.poisson(scan.diff3d.astype(np.float64) ** 2 * beam[:, None, None])
        scan = RawData(xcoords=x, ycoords=y, diff3d=counts, probeGuess=scan.probeGuess, domain="counts")
    found = refine(
        scan,
        np.ones((extent, extent), np.complex64),
        scan.probeGuess,
        RefinementConfig(epochs=epochs),
        device="cpu",
        quiet=True,
        stages=Stages.NONE,
    )
    return bool((np.asarray(found.light.intensities) != 1).any())


def main() -> int:
    """Run all cases, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1500, help="of the first scan; the others follow")
    parser.add_argument("--photons", type=float, default=1e7, help="of a pattern")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print_header(["numpy", "scipy"])
    seeds, begun = count(arguments.seed), time.process_time()

    def row(scatter: float, spacing: float, epochs: int) -> list[object]:
        told = [
            is_told(size, spacing, kind, arguments.photons, scatter, epochs, next(seeds))
            for size in SIZES
            for kind in KINDS
        ]
        return [f"{scatter:.0%}", f"{spacing:g} N", epochs, f"{sum(told)} of {len(told)}"]

    columns = ["the beam scatters by", "spacing", "epochs", "taken for unsteady"]
    print_table("Beams that are taken for unsteady", columns, (row(*case) for case in CASES))
    print(f"\n{time.process_time() - begun:.0f} CPU seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
