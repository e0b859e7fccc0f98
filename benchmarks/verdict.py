"""How often the verdict is mistaken: sound scans that it accuses, and faulty ones that it does not.

    python benchmarks/verdict.py --first 5000 --scans 240 [--jobs 2] [--results FILE.jsonl]
    python benchmarks/verdict.py --data DATA

Each seed gives a sound scan of ``_odd_scans.py`` and, of the same, one with one thing wrong, in turn. Each
is refined from a flat object for ten epochs, and judged. ``--results`` keeps one line a scan; what it has
already is not measured again. With ``--data``, the scans of a directory, each a Ptychodus standard directory,
are judged instead, refined likewise.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _odd_scans import MadeScan, sound_scan
from numpy.typing import NDArray

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.examination import Finding
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import extract_patches
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.verdict import conjugate_taken, judge
from ptychopinn_ptychodus.verdict.variants import Steps, Variant, orientations

FOUND = 0.8
"""Centred correlation with the truth from which on the object counts as found."""

SCALE_TOLERANCE = 0.15

COLUMNS_OF_FILES = (
    "scan",
    "error",
    "noise",
    "mean pattern",
    "explained",
    "in the trial: as it is / wrong orientations",
    "accused",
    "CPU s",
)


@dataclass(frozen=True)
class Spoilt:
    """A scan with one thing wrong, and the names of the readings that would mend it."""

    scan: MadeScan
    remedies: tuple[str, ...] = ()
    lag: int = 0
    scale: float = 1.0


def _inverse(steps: Steps) -> Steps:
    return (steps[1], steps[0], True) if steps[2] else steps


def _names(variant: Variant) -> tuple[str, ...]:
    other = variant.counterpart
    return (variant.name,) if other is None else (variant.name, other.name)


def _read(scan: MadeScan, variant: Variant) -> MadeScan:
    """The scan as a detector or a stage would have it that is mounted in another way."""
    fields = scan.fields
    where = np.stack((fields["xcoords"], fields["ycoords"]), -1)
    moved = variant.applied_to_positions(where - where.mean(axis=0))
    moved = moved - moved.min(axis=0) + where.min(axis=0)
    return scan.having(
        xcoords=moved[:, 0],
        ycoords=moved[:, 1],
        diff3d=np.ascontiguousarray(variant.applied_to_patterns(fields["diff3d"])),
        bad_pixels=np.ascontiguousarray(variant.applied_to_patterns(fields["bad_pixels"])),
    )


def patterns_turned(scan: MadeScan, rng: np.random.Generator) -> Spoilt:
    """The patterns in one of the seven other orientations."""
    variant = orientations()[rng.integers(7)]
    return Spoilt(_read(scan, variant), _names(Variant(patterns=_inverse(variant.patterns))))


def positions_turned(scan: MadeScan, rng: np.random.Generator) -> Spoilt:
    """The axes of the positions inverted or exchanged."""
    variant = Variant(positions=orientations()[rng.integers(7)].patterns)
    return Spoilt(_read(scan, variant), _names(Variant(positions=_inverse(variant.positions))))


def frames_lag(scan: MadeScan, rng: np.random.Generator) -> Spoilt:
    """A pattern too many, or one too few, somewhere in the first half of the recording, in its order."""
    count = len(scan.patterns)
    first, lag = int(rng.integers(count // 2)), int(rng.choice([-1, 1]))
    shown = np.arange(count)
    shown[first:] = np.clip(shown[first:] + lag, 0, count - 1)
    return Spoilt(scan.having(diff3d=scan.patterns[shown]), lag=lag)


def other_pixel(scan: MadeScan, rng: np.random.Generator) -> Spoilt:
    """Positions that are too far apart or too near each other, by 30 % to 2 times."""
    factor = float(np.exp(rng.uniform(math.log(1.3), math.log(2)) * rng.choice([-1, 1])))
    return Spoilt(_read(scan, Variant(scale=factor)), scale=1 / factor)


def shuffled(scan: MadeScan, rng: np.random.Generator) -> Spoilt:
    """Patterns in another order than the positions."""
    return Spoilt(scan.having(diff3d=scan.patterns[rng.permutation(len(scan.patterns))]))


def near_field(scan: MadeScan, rng: np.random.Generator) -> Spoilt:
    """Patterns of the beam a little behind the sample, as many counts in them."""
    size = scan.patterns.shape[-1]
    frequency = np.fft.fftfreq(size)
    kernel = np.exp(-1j * math.pi * rng.uniform(20, 60) * (frequency[:, None] ** 2 + frequency**2))
    patches = extract_patches(scan.object, scan.fields["xcoords"], scan.fields["ycoords"], size)
    waves = np.fft.ifft2(np.fft.fft2(patches[:, None] * scan.probe[None]) * kernel)
    expected = (np.abs(waves) ** 2).sum(1)
    counts = rng.poisson(expected * (scan.counts.sum() / expected.sum()))
    return Spoilt(scan.having(diff3d=counts, domain="counts"))


FAULTS: tuple[Callable[[MadeScan, np.random.Generator], Spoilt], ...] = (
    patterns_turned,
    positions_turned,
    frames_lag,
    patterns_turned,
    positions_turned,
    other_pixel,
    shuffled,
    near_field,
)


def refined_from_flat(raw: RawData) -> Refined:
    """What the refinement's defaults make of a scan from a flat object that holds all of it."""
    margin = raw.N // 2 + 2
    shape = (math.ceil(raw.ycoords.max()) + margin, math.ceil(raw.xcoords.max()) + margin)
    flat = np.ones(shape, np.complex64)
    return refine(raw, flat, raw.probeGuess, RefinementConfig(), device="cpu", quiet=True)


def verdict_on(raw: RawData, refined: Refined) -> Finding:
    """The verdict on that, as after every reconstruction."""
    return judge(
        raw,
        refined.object,
        refined.probe,
        refined.positions,
        metric="amplitude",
        error=refined.error,
        weights=refined.weights,
        light=refined.light,
        conjugated=refined.conjugated,
        device="cpu",
    )


def measure(seed: int, *, faulty: bool) -> dict[str, Any]:
    """Refine and judge one scan; what came of it."""
    scan = sound_scan(seed, size=64)
    kind, spoilt = "sound", Spoilt(scan)
    if faulty:
        fault = FAULTS[seed % len(FAULTS)]
        kind, spoilt = fault.__name__, fault(scan, np.random.default_rng([seed, 21]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = RawData(**spoilt.scan.fields)
    refined = refined_from_flat(raw)
    finding = verdict_on(raw, refined)
    values = dict(finding.values)
    trial, lag = values.get("trial"), values.get("lag")
    named = trial["best"] if trial is not None and trial["remedy"] else None
    if refined.conjugated and named is None:
        named = conjugate_taken().code
    # positions or patterns turned by half are what its warning names
    half_turn = Variant(positions=(True, True, False))
    remedies = (*spoilt.remedies, *((conjugate_taken().code,) if half_turn.name in spoilt.remedies else ()))
    right = named in remedies or (lag is not None and lag["frames"] == spoilt.lag)
    if trial is not None and trial["remedy"] and spoilt.scale != 1:
        right = abs(math.log(trial["best_scale"] / spoilt.scale)) < SCALE_TOLERANCE
    return {
        "seed": seed,
        "kind": kind,
        "correlation": _correlation(raw, refined.object, scan),
        "accused": finding.is_warning or refined.conjugated,
        "tells_little": values["tells_little"],
        "named": named if lag is None else f"lag {lag['frames']}",
        "right": right,
        "kinds": scan.kinds,
        "values": values,
    }


def _correlation(raw: RawData, found: NDArray[np.complex64], scan: MadeScan) -> float | None:
    height, width = (min(a, b) for a, b in zip(found.shape, scan.object.shape, strict=True))
    part = np.s_[:height, :width]
    lit = metrics.illumination_mask(scan.probe, raw.xcoords, raw.ycoords, found.shape)[part]
    if not lit.any():
        return None
    score = metrics.compare(found[part], scan.object[part], lit).complex_correlation_centred
    return score if math.isfinite(score) else None


def _part(some: int, all_: int) -> str:
    return f"{some} ({100 * some / all_:.0f} %)" if all_ else "0"


def rows(results: Iterable[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    """One row a kind."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        name = one["kind"].replace("_", " ")
        if name == "sound":
            found = (one["correlation"] or 0.0) >= FOUND
            name = f"sound, object {'found' if found else 'not found'}"
        groups.setdefault(name, []).append(one)
    for name in sorted(groups, key=lambda key: (not key.startswith("sound"), key)):
        group = groups[name]
        count = len(group)
        silent = [one for one in group if not one["accused"]]
        yield (
            name,
            str(count),
            _part(count - len(silent), count),
            _part(sum(one["named"] is not None for one in group), count),
            _part(sum(one["right"] and one["accused"] for one in group), count),
            _part(sum(one["tells_little"] for one in silent), count),
        )


def rows_of_files(directory: Path) -> Iterable[tuple[str, ...]]:
    """One row a scan of the directory, refined from a flat object and judged."""
    for path in sorted(product.parent for product in directory.glob("*/product.h5")):
        raw = read_standard_directory(path)
        refined = refined_from_flat(raw)
        begin = time.process_time()
        finding = verdict_on(raw, refined)
        seconds, values = time.process_time() - begin, finding.values
        trial = values.get("trial")
        yield (
            path.name,
            f"{values['error']:.4f}",
            f"{values['noise']:.4f}, at {values['counts_per_photon']:.3g} counts a photon",
            f"{values['bound']:.4f}",
            "says little" if values["tells_little"] else f"{100 * (1 - values['unexplained']):.1f} %",
            "no trial" if trial is None else f"{trial['as_it_is']:.4f} / {trial['wrong_orientations']:.4f}",
            "yes" if finding.is_warning or refined.conjugated else "no",
            f"{seconds:.1f}",
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--first", type=int, default=5000, help="first seed")
    parser.add_argument("--scans", type=int, default=240, help="sound and faulty ones together")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--data", type=Path, help="directory with scans, to judge these instead")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.data is not None:
        print_header(("numpy", "scipy"))
        print_table("Verdicts on scans in files", COLUMNS_OF_FILES, rows_of_files(arguments.data))
        return
    seeds = range(arguments.first, arguments.first + arguments.scans // 2)
    done: list[dict[str, Any]] = []
    if arguments.results is not None and arguments.results.exists():
        done = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    known = {(one["seed"], one["kind"] != "sound") for one in done}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = [
            pool.submit(partial(measure, faulty=faulty), seed)
            for seed in seeds
            for faulty in (False, True)
            if (seed, faulty) not in known
        ]
        for future in waiting:
            done.append(future.result())
            if arguments.results is not None:
                with arguments.results.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
    print_header(("numpy", "scipy"))
    columns = ("scan", "scans", "accused", "a remedy named", "the right one", "silent: noise")
    print_table("Verdicts", columns, rows(done))


if __name__ == "__main__":
    main()
