"""The refinement's defaults on simulated scans of many kinds, each scored against its truth.

    python -m benchmarks.zoo [--kinds NAME ...] [--seed 1] [--epochs 10] [--results FILE.jsonl]
        [--images DIR]

Each kind of ``kinds.py`` is refined from a flat object and the product's probe. A tenth more are drawn from a
reserved seed, which nothing is to be tuned on, and shown apart; ``--kinds`` with names leaves them out.
``--results`` keeps one line a scan: what it has already is not measured again. ``--images`` draws each result
beside the truth, with its power spectrum: look at them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A module of a package has its package on the path, and not the scripts' directory, as they have.
sys.path.insert(0, str(Path(__file__).parents[1]))

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import time

import numpy as np
from numpy.typing import NDArray

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine

from .kinds import KINDS, Kind, drawn_kinds
from .make import MadeScan, make
from .pictures import draw

RESERVED_SEED = 77003
"""Of the kinds that are drawn, and of their scans: nothing is to be tuned on them."""

COLUMNS = ("kind", "corr", "amp SSIM", "phase SSIM", "probe", "positions px", "residual", "CPU s")


@dataclass(frozen=True)
class Found:
    """A result of any program, and the CPU seconds it took; positions (M, 2) [x, y] in object pixels."""

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    seconds: float


def refined(scan: MadeScan, epochs: int) -> Found:
    """What the refinement's defaults make of a scan."""
    assert scan.raw.objectGuess is not None
    begin = time.process_time()
    config = RefinementConfig(epochs=epochs)
    result = refine(scan.raw, scan.raw.objectGuess, scan.raw.probeGuess, config, device="cpu", quiet=True)
    return Found(result.object, result.probe, result.positions, time.process_time() - begin)


def scores(scan: MadeScan, found: Found) -> dict[str, float]:
    """The object inside of the lit part, the probe's first mode, the positions, and the fit."""
    x, y = scan.positions.T
    lit = metrics.illumination_mask(scan.probe, x, y, scan.object.shape)
    object_ = metrics.compare(found.object, scan.object, lit)
    wrong = found.positions - scan.positions
    wrong -= wrong.mean(axis=0)
    return {
        "corr": object_.complex_correlation_centred,
        "amplitude": object_.amplitude.ssim,
        "phase": object_.phase.ssim,
        "probe": probe_overlap(found.probe, scan.probe),
        "positions": float(np.sqrt((wrong**2).sum(1).mean())),
        "residual": metrics.normalised_amplitude_residual(
            having_positions(scan.raw, found.positions), found.object, found.probe
        ),
        "cpu": found.seconds,
    }


def probe_overlap(found: NDArray[np.complex64], truth: NDArray[np.complex64]) -> float:
    """|⟨a, b⟩| / (‖a‖ ‖b‖) of the first modes, a shift and a ramp apart, which go with the object's."""
    light = np.abs(truth[0])
    aligned, _ = metrics.align(found[0], truth[0], light > 0.1 * light.max())
    return float(abs(np.vdot(aligned, truth[0])) / (np.linalg.norm(aligned) * np.linalg.norm(truth[0])))


def having_positions(raw: RawData, positions: NDArray[np.float64]) -> RawData:
    """The scan elsewhere."""
    return RawData(
        xcoords=positions[:, 0],
        ycoords=positions[:, 1],
        diff3d=raw.diff3d,
        probeGuess=raw.probeGuess,
        bad_pixels=raw.bad_pixels,
        domain="amplitude",
    )


def measure(
    kinds: dict[str, Kind], seed: int, arguments: argparse.Namespace, done: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """One dictionary a kind, those of ``done`` as they are."""
    known = {(one["kind"], one["seed"], one["epochs"]): one for one in done}
    for name, kind in kinds.items():
        one = known.get((name, seed, arguments.epochs))
        if one is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scan = make(kind, seed)
            found = refined(scan, arguments.epochs)
            one = {"kind": name, "seed": seed, "epochs": arguments.epochs, **scores(scan, found)}
            if arguments.images is not None:
                arguments.images.mkdir(parents=True, exist_ok=True)
                draw(scan, found.object, found.probe, arguments.images / f"{name}, seed {seed}.png")
            if arguments.results is not None:
                with arguments.results.open("a") as file:
                    file.write(json.dumps(one) + "\n")
        yield one


def rows(results: Iterator[dict[str, Any]]) -> Iterator[list[str]]:
    """Cells of a table."""
    for one in results:
        cells = [f"{one[key]:.4f}" for key in ("corr", "amplitude", "phase", "probe")]
        yield [one["kind"], *cells, f"{one['positions']:.2f}", f"{one['residual']:.5f}", f"{one['cpu']:.1f}"]


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
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    done: list[dict[str, Any]] = []
    if arguments.results is not None and arguments.results.exists():
        done = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    print_header(("numpy", "scipy"))
    chosen = {name: KINDS[name] for name in arguments.kinds or KINDS}
    listed = measure(chosen, arguments.seed, arguments, done)
    print_table(f"Kinds, seed {arguments.seed}", COLUMNS, rows(listed))
    if arguments.kinds is None:
        drawn = drawn_kinds(RESERVED_SEED, round(0.1 * len(KINDS)))
        print_table("Drawn", COLUMNS, rows(measure(drawn, RESERVED_SEED, arguments, done)))


if __name__ == "__main__":
    main()
