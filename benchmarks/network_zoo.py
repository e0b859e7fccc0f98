"""The network's own object and probe, and what the refinement makes of them, on scans of the zoo's kinds.

    python benchmarks/network_zoo.py [--kinds NAME ...] [--seed 1] [--effort normal] [--backend pytorch]
        [--no-refinement] [--results FILE.jsonl] [--images DIR] [--keep DIR]

A network is trained on each scan with the defaults, and applied with every pattern as an anchor. Rows of a
kind: the product's probe; the network; the refinement from the network, as a reconstruction has it; the
refinement from a flat object and the product's probe. ``--keep`` leaves the network's object and probe as NPZ
files, and takes them from there if they are there already.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from numpy.typing import NDArray
from zoo.kinds import KINDS
from zoo.make import MadeScan, make
from zoo.pictures import draw
from zoo.results import Found, probe_overlap, scores

from ptychopinn_ptychodus import api
from ptychopinn_ptychodus.refinement.chosen_start import Start, better_start
from ptychopinn_ptychodus.refinement.solver import refine

CHOSEN = (
    "usual",
    "focus off",
    "weak phase",
    "strong phase",
    "exact raster, weak, computed",
    "three modes",
    "three modes, one known",
    "random",
    "1e3 photons",
)
"""Kinds by default, of probe, object, scan and dose."""

COLUMNS = ("kind", "what", "corr", "amp SSIM", "phase SSIM", "probe", "modes, %", "residual", "CPU s")
PRODUCT, NETWORK, REFINED, FLAT = "product", "network", "network, refined", "flat, refined"


@dataclass(frozen=True)
class Row:
    """One way to an object and a probe on one scan: its name, what it found, and whether it has an object."""

    what: str
    found: Found
    has_object: bool = True


def rows(scan: MadeScan, arguments: argparse.Namespace, kept: Path | None) -> Iterator[Row]:
    """The ways of one scan, each as soon as it is done."""
    raw = scan.raw
    assert raw.objectGuess is not None
    flat, given = raw.objectGuess, raw.probeGuess.reshape(-1, raw.N, raw.N)
    where = np.stack((raw.xcoords, raw.ycoords), -1)
    yield Row(PRODUCT, Found(flat, given, where, 0.0), has_object=False)
    network = _kept(kept) or _trained(scan, where, arguments.effort, arguments.backend)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, object=network.object, probe=network.probe, positions=where, seconds=network.seconds)
    yield Row(NETWORK, network)
    if arguments.no_refinement:
        return
    config = api.default_refinement_config(effort=arguments.effort)
    for what, object_, probe in ((REFINED, network.object, network.probe), (FLAT, flat, raw.probeGuess)):
        begin = time.process_time()
        start = Start(object_, probe)
        if what == REFINED:
            start = better_start(raw, start, config, device="cpu", should_stop=lambda: False)
        result = refine(raw, start.object, start.probe, config, device="cpu", quiet=True)
        seconds = time.process_time() - begin
        yield Row(what, Found(result.object, result.probe, result.positions, seconds))


def _kept(path: Path | None) -> Found | None:
    if path is None or not path.exists():
        return None
    with np.load(path) as file:
        return Found(file["object"], file["probe"], file["positions"], float(file["seconds"]))


def _trained(scan: MadeScan, where: NDArray[np.float64], effort: str, backend: str) -> Found:
    begin = time.process_time()
    config = api.default_training_config(scan.raw, effort=effort, backend=backend)
    execution = api.default_execution_config(accelerator="cpu")
    with tempfile.TemporaryDirectory() as output:
        model = api.train(scan.raw, config, output_dir=output, execution=execution, in_process=True)
        found = api.reconstruct(scan.raw, model, refinement=None, execution=execution, in_process=True)
    # on the grid of the truth, whose first pixel is the origin of the positions
    canvas = np.ones(scan.object.shape, np.complex64)
    left, top = (round(value) for value in found.origin)
    height, width = found.object.shape
    first, beyond = (max(top, 0), max(left, 0)), (max(-top, 0), max(-left, 0))
    rows, columns = scan.object.shape
    height, width = min(height - beyond[0], rows - first[0]), min(width - beyond[1], columns - first[1])
    canvas[first[0] : first[0] + height, first[1] : first[1] + width] = found.object[
        beyond[0] : beyond[0] + height, beyond[1] : beyond[1] + width
    ]
    return Found(canvas, found.probe, where, time.process_time() - begin)


def measured(scan: MadeScan, row: Row) -> dict[str, Any]:
    """Scores of a row, and the powers of the probe's modes."""
    powers = (np.abs(row.found.probe) ** 2).sum((1, 2))
    modes = [float(power) for power in powers / powers.sum()]
    if row.has_object:
        return scores(scan, row.found) | {"modes": modes}
    return {"probe": probe_overlap(row.found.probe, scan.probe), "modes": modes}


def cells(kind: str, what: str, one: dict[str, Any]) -> list[str]:
    """Of a row of the table."""
    ways = {"corr": ".4f", "amplitude": ".4f", "phase": ".4f", "probe": ".4f"}
    shown = [format(one[key], way) if key in one else "" for key, way in ways.items()]
    shown.append(" : ".join(f"{100 * mode:.0f}" for mode in one["modes"]))
    rest = {"residual": ".5f", "cpu": ".1f"}
    return [kind, what, *shown, *(format(one[key], way) if key in one else "" for key, way in rest.items())]


def table(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Cells of all rows; they are measured on the way."""
    for kind in arguments.kinds:
        scan = make(KINDS[kind], arguments.seed)
        kept = arguments.keep and arguments.keep / f"{kind}, seed {arguments.seed}.npz"
        for row in rows(scan, arguments, kept):
            one = measured(scan, row)
            if arguments.results is not None:
                with arguments.results.open("a") as lines:
                    lines.write(
                        json.dumps({"kind": kind, "seed": arguments.seed, "what": row.what} | one) + "\n"
                    )
            if arguments.images is not None and row.has_object:
                arguments.images.mkdir(parents=True, exist_ok=True)
                name = f"{kind}, seed {arguments.seed}, {row.what}.png"
                draw(scan, row.found.object, row.found.probe, arguments.images / name)
            yield cells(kind, row.what, one)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), metavar="NAME", default=list(CHOSEN))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--backend", default="pytorch")
    parser.add_argument("--no-refinement", action="store_true")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print_header(("numpy", "scipy", "torch" if arguments.backend == "pytorch" else "tensorflow"))
    print_table(f"Networks, seed {arguments.seed}, {arguments.effort}", COLUMNS, table(arguments))


if __name__ == "__main__":
    main()
