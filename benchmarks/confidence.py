"""Whether a map of confidence predicts where a result is wrong, on made scans whose objects are known.

    python benchmarks/confidence.py [--seeds 801] [--kinds NAME ...] [--ways NAME ...] [--images DIR]
        [--network]

Each scan is one of the zoo's kinds (``benchmarks/zoo``), refined from a flat object; or an object with lines
that no pattern asks for, as a network draws that knows nothing but lines, on a scan of a blank sample and on
one of blobs. The true error is |object - truth|, root mean square within the few pixels that the map averages
over: with shift, ramp, phase and scale taken off ("aligned"), and with the phase free in the neighbourhood,
half a pattern across ("local"). ``rho`` is the rank correlation of expected and true error over the lit
pixels; ``expected / true`` of their root mean squares. ``lines`` is the chance that a pixel of an invented
line is expected to be more wrong than one beside them (area under the ROC curve).

The ways are what was chosen from; the first one is what the package does. ``--network`` trains a small
network on the first kind, for the spread of its passes; it needs PyTorch. The curve of calibration is drawn
into ``--images``: look at it. Settings were chosen on the seeds 1 and 2.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from _tables import cpu_seconds, print_header, print_table, use_one_thread

use_one_thread()

import sys

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage, stats
from skimage.draw import line
from zoo.kinds import KINDS
from zoo.make import make

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.confidence import Confidence
from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.data.stitching import coverage_of
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.verdict.confidence import confidence_in

RESERVED = 801  # nothing was chosen on it
COUNT = 144  # patterns of a scan
USED = (
    "usual",
    "weak phase",
    "strong phase",
    "half blank",
    "sparse",
    "1e3 photons",
    "1e8 photons",
    "positions 1 px",
    "probe moving in focus",
)
NEAR = 1.5  # pixels, as in the map
NEIGHBOURHOOD = 12.0  # pixels, standard deviation
BINS = 12
DEPTH = 0.4  # of the invented lines, of the amplitude
Map = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A scan, a result of it, the truth, and where lines were invented, if they were."""

    name: str
    raw: RawData
    truth: NDArray[np.complexfloating]
    found: Estimate
    refined: Refined | None
    seconds: float
    invented: NDArray[np.bool_] | None = None


def refined_case(name: str, seed: int) -> Case:
    """A kind of the zoo, as the refinement finds it."""
    scan = make(replace(KINDS[name], count=COUNT), seed)
    results: list[Refined] = []
    flat = np.ones(scan.object.shape, np.complex64)
    config = RefinementConfig(probe_modes=len(scan.probe))
    seconds = cpu_seconds(
        lambda: results.append(refine(scan.raw, flat, scan.raw.probeGuess, config, device="cpu", quiet=True))
    )
    result = results[0]
    return Case(
        name,
        scan.raw,
        scan.object,
        Estimate(result.object, result.probe, result.positions),
        result,
        seconds,
    )


def invented_case(kind: str, seed: int) -> Case:
    """The truth with lines in it that the patterns know nothing of."""
    x, y = raster_positions(11, 11, 5.0, jitter=0.3, origin=34.0, seed=seed)
    edge = 34 + 50 + 35
    truth = (
        np.ones((edge, edge), np.complex64) if kind == "blank" else make_object((edge, edge), "blobs", seed)
    )
    raw = simulate_scan(truth, make_probe(64), x, y, photons=1e6, seed=seed)
    rng = np.random.default_rng(seed)
    drawn = np.zeros(truth.shape)
    for ends in rng.integers(20, edge - 20, (6, 4)):
        rows, columns = line(*ends)  # type: ignore[no-untyped-call]
        drawn[rows, columns] = 1.0
    drawn = ndimage.gaussian_filter(drawn, 0.8)
    drawn /= drawn.max()
    found = Estimate((truth * (1.0 - DEPTH * drawn)).astype(np.complex64), raw.probeGuess)
    return Case(f"lines on {kind}", raw, truth, found, None, np.nan, drawn > 0.3)


def cases(kinds: list[str], seed: int) -> Iterator[Case]:
    for kind in kinds:
        yield refined_case(kind, seed)
    for kind in ("blank", "blobs"):
        yield invented_case(kind, seed)


# ---------------------------------------------------------------------- ways


def by_halves(case: Case, **options: Any) -> tuple[Map, Confidence | None]:
    found = confidence_in(case.raw, case.found, case.refined, device="cpu", **options)
    assert found is not None
    return found.expected_error.astype(np.float64), found


def by_counts(case: Case) -> tuple[Map, Confidence | None]:
    """The standard error that the likelihood's curvature has from illumination and counts alone."""
    probe = case.found.probe.astype(np.complex128)
    probe *= np.sqrt(case.raw.photons_per_pattern / (np.abs(probe) ** 2).sum())
    x, y = positions_of(case)
    shape = (case.truth.shape[0], case.truth.shape[1])
    dose = coverage_of((np.abs(probe) ** 2).sum(0), x, y, shape)
    # the modulus at the detector, known to 1/2, shows half of a change of the wave
    return np.sqrt(0.5 / np.maximum(dose, 1e-12)), None


WAYS: dict[str, Callable[[Case], tuple[Map, Confidence | None]]] = {
    "halves": by_halves,
    "halves, from the result": partial(by_halves, detail=0.0),
    "counts": by_counts,
}


# ---------------------------------------------------------------------- how well they predict


@dataclass(frozen=True)
class Scores:
    """Of one way on one case; ``pairs`` are expected and true local error of lit pixels, over contrast."""

    rho: float
    rho_local: float
    ratio: float
    ratio_local: float
    lines: float
    pairs: Map


def scores(case: Case, expected: Map, lit: NDArray[np.bool_]) -> Scores:
    aligned, _ = metrics.align(case.found.object, case.truth, lit)
    if case.invented is not None:  # which is on the grid of the truth, and an invention must not move it
        aligned = np.asarray(case.found.object, np.complex128)
    product = np.where(lit, aligned * np.conj(case.truth), 0.0)
    slow = sum(
        unit * ndimage.gaussian_filter(part, NEIGHBOURHOOD)
        for unit, part in ((1.0, product.real), (1j, product.imag))
    )
    nearby = aligned * np.exp(-1j * np.angle(slow))
    true, local = (averaged(np.abs(one - case.truth), lit)[lit] for one in (aligned, nearby))
    guess = expected[lit]
    contrast = float(np.std(case.truth[lit])) or 1.0
    lines = np.nan
    if case.invented is not None:
        beside = ndimage.binary_dilation(case.invented, iterations=4)
        on, off = expected[case.invented & lit], expected[~beside & lit]
        lines = float(stats.mannwhitneyu(on, off).statistic / (on.size * off.size))
    return Scores(
        float(stats.spearmanr(guess, true).statistic),
        float(stats.spearmanr(guess, local).statistic),
        rms(guess) / rms(true),
        rms(guess) / rms(local),
        lines,
        np.stack((guess, local)) / contrast,
    )


def lit_part(case: Case) -> NDArray[np.bool_]:
    x, y = positions_of(case)
    shape = (case.truth.shape[0], case.truth.shape[1])
    return metrics.illumination_mask(case.found.probe, x, y, shape)


def positions_of(case: Case) -> tuple[Map, Map]:
    found = case.found.positions
    return (case.raw.xcoords, case.raw.ycoords) if found is None else (found[:, 0], found[:, 1])


def averaged(error: Map, lit: NDArray[np.bool_]) -> Map:
    weight = ndimage.gaussian_filter(lit.astype(np.float64), NEAR)
    squares = ndimage.gaussian_filter(np.where(lit, error**2, 0.0), NEAR)
    return np.asarray(np.sqrt(squares / np.maximum(weight, 1e-12)))


def rms(values: Map) -> float:
    return float(np.sqrt(np.mean(values**2)))


def rows(
    all_cases: list[Case], ways: list[str], measured: dict[tuple[str, str], Scores], images: Path | None
) -> Iterator[list[str]]:
    for case in all_cases:
        lit = lit_part(case)
        for way in ways:
            results: list[tuple[Map, Confidence | None]] = []
            seconds = cpu_seconds(lambda: results.append(WAYS[way](case)))  # noqa: B023 (called at once)
            expected, confidence = results[0]
            found = measured[case.name, way] = scores(case, expected, lit & np.isfinite(expected))
            if images is not None and confidence is not None:
                draw_case(case, confidence, images / f"{case.name}, {way}.png")
            cells = [case.name, way, *(f"{v:.2f}" for v in (found.rho, found.rho_local))]
            cells += [f"{v:.2f}" for v in (found.ratio, found.ratio_local)]
            cells.append("" if np.isnan(found.lines) else f"{found.lines:.3f}")
            if confidence is None:
                cells += ["", "", ""]
            else:
                half = confidence.half_period()
                cells += [f"{confidence.mean:.2f}", f"{confidence.doubtful:.0%}"]
                cells.append("< 1" if half is None else f"{half:.2f}")
            cells.append("" if np.isnan(case.seconds) else f"{seconds / case.seconds:.2f}")
            yield cells


def calibration(pairs: Map) -> Iterator[tuple[float, float]]:
    """Root mean squares of expected and true error in bins of the expected one, as many pixels in each."""
    order = np.argsort(pairs[0])
    for part in np.array_split(order, BINS):
        yield rms(pairs[0, part]), rms(pairs[1, part])


# ---------------------------------------------------------------------- pictures


def draw_case(case: Case, confidence: Confidence, path: Path) -> None:
    figure = Figure(figsize=(17, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    lit = np.isfinite(confidence.expected_error)
    aligned, _ = metrics.align(case.found.object, case.truth, lit)
    true = np.where(lit, averaged(np.abs(aligned - case.truth), lit), np.nan)
    high = float(np.nanpercentile(true, 99.5))
    images: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("amplitude", np.abs(case.found.object), {"cmap": "gray"}),
        ("true error", true, {"cmap": "magma", "vmin": 0, "vmax": high}),
        ("expected error", confidence.expected_error, {"cmap": "magma", "vmin": 0, "vmax": high}),
        ("confidence", confidence.map, {"cmap": "viridis", "vmin": 0, "vmax": 1}),
    )
    for axes, (title, image, options) in zip(figure.subplots(1, 4), images, strict=True):
        figure.colorbar(axes.imshow(image, **options), ax=axes, shrink=0.8)
        axes.set_title(f"{case.name}: {title}")
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=75)


def draw_calibration(measured: dict[tuple[str, str], Scores], ways: list[str], path: Path) -> None:
    figure = Figure(figsize=(5.5 * len(ways), 5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, way in zip(np.atleast_1d(figure.subplots(1, len(ways))), ways, strict=True):
        for (name, of), found in measured.items():
            if of == way:
                points = np.array(list(calibration(found.pairs)))
                axes.loglog(points[:, 0], points[:, 1], ".-", lw=0.8, label=name)
        ends = (1e-3, 3.0)
        axes.loglog(ends, ends, "k--", lw=0.8)
        axes.set(title=way, xlabel="expected error / contrast", ylabel="true error, local / contrast")
        axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=75)


# ---------------------------------------------------------------------- passes of a network


def passes(seed: int, count: int = 6, epochs: int = 10) -> Iterator[list[str]]:
    """The spread of what a network makes of other groups, beside the halves, on its own object."""
    from _network import apply, train

    from ptychopinn_ptychodus.api import default_training_config

    scan = make(replace(KINDS["usual"], count=COUNT), seed)
    config = default_training_config(scan.raw, nepochs=epochs, backend="pytorch")
    module, trained = train(scan.raw, config)
    shape = (scan.object.shape[0], scan.object.shape[1])
    objects: list[NDArray[np.complexfloating]] = []

    def apply_all() -> None:
        for number in range(count):
            objects.append(apply(module, scan.raw, replace(config, subsample_seed=number), shape))

    seconds = cpu_seconds(apply_all)
    case = Case("network", scan.raw, scan.object, Estimate(objects[0], scan.raw.probeGuess), None, seconds)
    by, _ = by_halves(case)
    lit = np.isfinite(by)
    turned = [metrics.align(one, objects[0], lit)[0] for one in objects]
    spread = averaged(np.std(turned, axis=0), lit)
    for way, expected in (("halves", by), (f"spread of {count} passes", spread)):
        found = scores(case, expected, lit)
        values = (found.rho, found.rho_local, found.ratio, found.ratio_local)
        yield [way, *(f"{value:.2f}" for value in values), f"{trained:.0f}", f"{seconds / count:.1f}"]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[RESERVED])
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(USED), metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="NAME")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--network", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print_header(("numpy", "scipy"))
    if arguments.images is not None:
        arguments.images.mkdir(parents=True, exist_ok=True)
    columns = (
        *("scan", "way", "rho aligned", "rho local", "expected / true aligned", "local", "lines"),
        *("mean", "doubtful", "half period px", "CPU, of the refinement's"),
    )
    for seed in arguments.seeds:
        measured: dict[tuple[str, str], Scores] = {}
        made = list(cases(arguments.kinds, seed))
        print_table(f"Seed {seed}", columns, rows(made, arguments.ways, measured, arguments.images))
        if arguments.images is not None:
            draw_calibration(measured, arguments.ways, arguments.images / f"calibration, seed {seed}.png")
        bins = ("way", *(f"bin {number}" for number in range(1, BINS + 1)))
        print_table(
            f"True over expected error by bins of the latter, seed {seed}",
            bins,
            bin_rows(measured, arguments.ways),
        )
        if arguments.network:
            columns_of_passes = ("way", *columns[2:6], "CPU s of training", "CPU s of a pass")
            print_table(f"An unrefined network, seed {seed}", columns_of_passes, passes(seed))


def bin_rows(measured: dict[tuple[str, str], Scores], ways: list[str]) -> Iterator[list[str]]:
    """All refined scans of a way together."""
    for way in ways:
        pairs = [one.pairs for (_, of), one in measured.items() if of == way and np.isnan(one.lines)]
        if pairs:
            points = calibration(np.concatenate(pairs, axis=1))
            yield [way, *(f"{true / max(expected, 1e-12):.2f}" for expected, true in points)]


if __name__ == "__main__":
    main()
