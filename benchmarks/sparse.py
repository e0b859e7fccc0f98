"""Scans whose patterns overlap less and less: a network for single frames beside refinement.

    python benchmarks/sparse.py --reference DATA/synthetic/truth.npz [--seed N] [--peer PYTHON] [--images DIR]

The probe is that of ``--reference``, and known; the step of a scan is given in its widths. One network is
trained, on made scans under that probe whose objects it is told, half of them pieces of patterns of lines as
those of ``lines.py``; no object here is among them. ``--peer``, with a Python that has pty-chi, adds LSQ-ML
from a flat object. Scores are means over the objects of a set, where light falls: correlation, amplitude SSIM
and phase SSIM; of lines, whose phase is 0 and whose ground is dark, the phase is not scored. The last column
says where the package warns of little overlap.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _tables import cpu_seconds, print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _network import apply, on_scan, train
from lines import SIZE as LINES_SIZE
from lines import half_lines, known_objects, line_object
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from zoo.lsqml import FROM_FLAT, lsqml
from zoo.make import MadeScan

from ptychopinn_ptychodus.config import TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.overlapping import shared_light
from ptychopinn_ptychodus.data.probe import probe_width
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import raster_positions, simulate_scan
from ptychopinn_ptychodus.pretraining.objects import random_object
from ptychopinn_ptychodus.pretraining.scans import TrainingSet, make_training_set
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.settings_table import SETTINGS
from ptychopinn_ptychodus.verdict import little_overlap

STEPS = (0.25, 0.5, 0.75, 1.0, 1.25)  # of neighbouring positions, widths of the probe
JITTER = 0.2  # of a step, at most, in x and in y
SIZE = 232  # edge of an object, pixels
PHOTONS = 1e7  # a pattern, on average
SEED = 804  # of the objects, and of the noise, if no other is given
SCANS = 144  # to learn from; 64 patterns each
OTHERS = ("grains", "image")  # kinds of objects of the second set
NETWORK, REFINED, PRIOR, AFTER = "network", "refined from flat", "with the prior", "refined after network"
PEER = "LSQ-ML"
STYLES = {NETWORK: "o-", REFINED: "s--", PRIOR: "x-.", AFTER: "^:", PEER: "d--"}
FLAT = RefinementConfig(epochs=int(SETTINGS["WithoutModel.Epochs"].default))
SCORES = ("corr", "amplitude SSIM", "phase SSIM")

ComplexImage = NDArray[np.complexfloating]


@dataclass(frozen=True)
class Results:
    """Objects by the way that they were made, and whether the prior was taken."""

    objects: Mapping[str, ComplexImage]
    prior_taken: bool


@dataclass(frozen=True)
class Scan:
    """A scan of one object, and where its light falls."""

    truth: NDArray[np.complex64]
    raw: RawData
    lit: NDArray[np.bool_]

    @classmethod
    def of(cls, truth: NDArray[np.complex64], probe: NDArray[np.complex64], step: float, seed: int) -> Scan:
        """A grid over all of the object, ``step`` pixels wide, its positions shaken a little."""
        n = probe.shape[-1]
        side = int((SIZE - n - 2 * JITTER * step) // step) + 1
        first = (SIZE - 1 - (side - 1) * step) / 2
        x, y = raster_positions(side, side, step, jitter=JITTER, origin=first, seed=seed)
        raw = simulate_scan(truth, probe, x, y, PHOTONS, seed)
        return cls(truth, raw, metrics.illumination_mask(probe, x, y, truth.shape))

    def results(self, module: Any, config: TrainingConfig, peer: str | None) -> Results:
        """The object by each way."""
        fitted = on_scan(module, self.raw, config)
        network = apply(fitted, self.raw, config, self.truth.shape)
        probe = fitted.counts_probe().detach().numpy()
        ones, given = np.ones_like(self.truth), self.raw.probeGuess
        prior = refine(self.raw, ones, given, replace(FLAT, prior="auto"), device="cpu")
        # a prior that is not taken leaves what there is without one
        flat = refine(self.raw, ones, given, FLAT, device="cpu") if prior.denoised else prior
        after = refine(self.raw, network, probe, RefinementConfig(), device="cpu")
        objects = {NETWORK: network, REFINED: flat.object, PRIOR: prior.object, AFTER: after.object}
        if peer is not None:
            x, y = self.raw.xcoords, self.raw.ycoords
            made = MadeScan(self.raw, self.truth, given, np.stack((x, y), -1))
            objects[PEER] = lsqml(made, peer, FROM_FLAT).object
        return Results(objects, prior.denoised)

    def scores(self, object_: ComplexImage) -> tuple[float, float, float]:
        """As :data:`SCORES`; the phase is NaN where the object has none."""
        found = metrics.compare(object_, self.truth, self.lit)
        phase = found.phase.ssim if np.abs(self.truth.imag).max() > 0 else np.nan
        return found.complex_correlation_centred, found.amplitude.ssim, phase


def objects(seed: int) -> dict[str, list[NDArray[np.complex64]]]:
    """The sets by name, (SIZE, SIZE) each."""
    corner = slice((LINES_SIZE - SIZE) // 2, (LINES_SIZE + SIZE) // 2)
    others = [
        random_object((SIZE, SIZE), np.random.default_rng((seed, number)), kinds=(kind,))
        for number, kind in enumerate(OTHERS)
    ]
    return {"lines": [line_object(seed)[corner, corner]], "other kinds": others}


def trained(probe: NDArray[np.complex64]) -> tuple[Any, TrainingConfig, float]:
    """The network, how it was trained, and the CPU seconds of that and of the making of its scans."""
    told = known_objects(1, SCANS, 1)
    made: list[TrainingSet] = []
    making = cpu_seconds(
        lambda: made.append(make_training_set(told["pretraining"], [probe], make_object=half_lines))
    )
    module, seconds = train(made[0].training, told["training"], validation=made[0].validation)
    return module, told["training"], making + seconds


# ---------------------------------------------------------------------- table and pictures


@dataclass(frozen=True)
class Point:
    """A set of objects at one step."""

    step: float  # widths of the probe
    patterns: int
    shared: float
    warned: bool
    scores: Mapping[str, Sequence[float]]  # by way
    examples: Mapping[str, ComplexImage]  # of the first object
    scan: Scan
    prior_taken: int  # of how many objects

    def cells(self) -> list[str]:
        scores = [
            " / ".join(f"{value:.3f}" for value in found if not np.isnan(value))
            for found in self.scores.values()
        ]
        taken = str(self.prior_taken or "")
        warned = "warned" if self.warned else ""
        return [f"{self.step:g}", str(self.patterns), f"{self.shared:.2f}", *scores, taken, warned]


def points(
    truths: Sequence[NDArray[np.complex64]],
    probe: NDArray[np.complex64],
    module: Any,
    config: TrainingConfig,
    arguments: argparse.Namespace,
) -> Iterator[Point]:
    for step in STEPS:
        scans = [Scan.of(truth, probe, step * probe_width(probe), arguments.seed) for truth in truths]
        results = [scan.results(module, config, arguments.peer) for scan in scans]
        raw = scans[0].raw
        scored = [
            {way: scan.scores(found) for way, found in result.objects.items()}
            for scan, result in zip(scans, results, strict=True)
        ]
        yield Point(
            step,
            len(raw),
            shared_light(raw.probeGuess, raw.xcoords, raw.ycoords),
            little_overlap(raw, of_single_frames=True) is not None,
            {way: np.mean([one[way] for one in scored], axis=0).tolist() for way in scored[0]},
            results[0].objects,
            scans[0],
            sum(result.prior_taken for result in results),
        )


def curves(measured: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Scores over the step, a row of axes for each set."""
    figure = Figure(figsize=(11, 3.2 * len(measured)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(measured), len(SCORES), squeeze=False)
    for row, (name, found) in zip(axes, measured.items(), strict=True):
        for number, (axis, score) in enumerate(zip(row, SCORES, strict=True)):
            for way in found[0].scores:
                values = [p.scores[way][number] for p in found]
                axis.plot([p.step for p in found], values, STYLES[way], label=way)
            warned = [p.step for p in found if p.warned]
            if warned:
                axis.axvspan(min(warned) - 0.125, max(STEPS) + 0.125, color="0.9", label="little overlap")
            axis.set(title=f"{name}: {score}", xlabel="step, widths of the probe", ylim=(-0.05, 1.05))
            axis.set_visible(not np.isnan([p.scores[NETWORK][number] for p in found]).any())
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=90)


def pictures(found: Sequence[Point], path: Path, *, phase: bool) -> None:
    """The first object of a set, aligned, by each way: amplitude of one, or phase, a row for each step."""
    columns = len(found[0].examples) + 1
    figure = Figure(figsize=(2.5 * columns, 2.6 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(found), columns)
    part = np.angle if phase else np.abs
    for row, point in zip(axes, found, strict=True):
        truth, lit = point.scan.truth, point.scan.lit
        low, high = np.percentile(part(truth)[lit], (0.5, 99.5))
        shown = {"truth": truth, **point.examples}
        for axis, (name, object_) in zip(row, shown.items(), strict=True):
            image = truth if name == "truth" else metrics.align(object_, truth, lit)[0]
            axis.imshow(np.where(lit, part(image), np.nan), cmap="gray", vmin=low, vmax=high)
            axis.set_title(f"{name}, step {point.step:g}", fontsize=9)
            axis.set_axis_off()
    figure.savefig(path, dpi=75)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, help="its probe is used")
    parser.add_argument("--seed", type=int, default=SEED, help="of the objects and of the noise")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with pty-chi")
    parser.add_argument("--images", type=Path, help="directory for a plot and pictures")
    arguments = parser.parse_args()
    with np.load(arguments.reference) as file:
        probe = np.asarray(file["probe"], np.complex64)
    probe = probe.reshape(-1, *probe.shape[-2:])
    print_header(["torch", "lightning"])
    module, config, seconds = trained(probe)
    print(f"\nThe probe is {probe_width(probe):.1f} pixels wide; {seconds:.0f} CPU seconds of training.")
    measured: dict[str, list[Point]] = {}
    ways = [way for way in STYLES if arguments.peer is not None or way != PEER]
    columns = ("step", "patterns", "shared light", *ways, "prior taken", "overlap")
    for name, truths in objects(arguments.seed).items():
        found = measured.setdefault(name, [])

        def rows(
            truths: Sequence[NDArray[np.complex64]] = truths, found: list[Point] = found
        ) -> Iterator[list[str]]:
            for point in points(truths, probe, module, config, arguments):
                found.append(point)
                yield point.cells()

        print_table(f"{name}, {len(truths)} of them", columns, rows())
    if arguments.images:
        arguments.images.mkdir(parents=True, exist_ok=True)
        curves(measured, arguments.images / "sparse.png")
        pictures(measured["lines"], arguments.images / "sparse_lines.png", phase=False)
        pictures(measured["other kinds"], arguments.images / "sparse_others.png", phase=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
