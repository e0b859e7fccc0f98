"""Resolution over dose, for a network trained by Poisson likelihood and by amplitude error.

    python benchmarks/dose.py --reference DATA/synthetic/truth.npz [--images docs/img]

One object under one probe, at the same positions, with the noise of each dose. At every dose a network learns
from that scan alone, once by each objective, and everything else alike; its object is compared with the true
one, ring by ring, and the half period is where the correlation falls below a half. A refined object is fitted
to the same scan from the network's, by the same objective.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _network import apply, train
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptychopinn_ptychodus.config import ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine

DOSES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
LEVEL = 0.5
PICTURED = 4  # doses
WAYS = {"Poisson": "poisson", "amplitude MAE": "amplitude"}  # objective -> the refinement's metric
UNROLLED = TrainingConfig(
    model=ModelConfig(architecture="unrolled", gridsize=2, n_filters_scale=1),
    nepochs=2,
    batch_size=4,
    neighbor_count=6,
    subsample_seed=0,
    backend="pytorch",
)
CNN = replace(UNROLLED, model=ModelConfig(architecture="cnn", n_filters_scale=1), nepochs=5)
CONFIGS = {"unrolled": UNROLLED, "cnn": CNN}


@dataclass(frozen=True)
class Score:
    """Of one object against the true one.

    ``first`` is the half period at which the ring correlation first falls below ``LEVEL``, ``last`` the one
    from which on it stays there, both in pixels. They differ where coarse detail is lost and fine is not.
    """

    first: float
    last: float
    correlation: float


@dataclass(frozen=True)
class Point:
    """What one training at one dose came to."""

    network: NDArray[np.complexfloating]
    refined: NDArray[np.complexfloating]
    scores: Mapping[str, Score]  # of both, by name
    seconds: float


class Experiment:
    """The object, the probe and the positions that every dose has in common."""

    def __init__(self, reference: Path) -> None:
        with np.load(reference) as file:
            self.truth, self.probe, positions = file["object"], file["probe"], file["positions_rc_px"]
        self.y, self.x = positions.T
        self.mask = metrics.illumination_mask(self.probe, self.x, self.y, self.truth.shape)

    def scan(self, photons: float) -> RawData:
        """The noise of a dose is the same for all networks."""
        scan = simulate_scan(self.truth, self.probe, self.x, self.y, photons, seed=0)
        scan.objectGuess = None  # nothing is to be learnt from it
        return scan

    def score(self, object_: NDArray[np.complexfloating]) -> Score:
        rings = metrics.fourier_ring_correlation(self.truth, object_, self.mask)
        first, last = crossings(rings.frequency, rings.correlation)
        found = metrics.compare(object_, self.truth, self.mask)
        return Score(0.5 / first, 0.5 / last, found.complex_correlation_centred)

    def measure(self, photons: float, objective: str, config: TrainingConfig) -> Point:
        """Train, apply, refine and score."""
        poisson = WAYS[objective] == "poisson"
        config = replace(config, nll_weight=float(poisson), mae_weight=float(not poisson))
        scan = self.scan(photons)
        config = replace(config, n_groups=len(scan))
        module, seconds = train(scan, config)
        network = apply(module, scan, config, self.truth.shape)
        probe = module.counts_probe().detach().numpy()
        how = RefinementConfig(metric=WAYS[objective], probe=False, positions=False)
        refined = refine(scan, network, probe, how, device="cpu").object
        scores = {"network": self.score(network), "refined": self.score(refined)}
        return Point(network, refined, scores, seconds)


def crossings(frequency: NDArray[np.float64], correlation: NDArray[np.float64]) -> tuple[float, float]:
    """First and last frequency at which the correlation falls below ``LEVEL``, on lines between rings.

    The two innermost rings hold too few samples to tell. 0.5 cycles a pixel where it never falls.
    """
    high = correlation >= LEVEL
    falls = [ring for ring in range(2, len(high)) if not high[ring] and (high[ring - 1] or ring == 2)]
    found = []
    for ring in falls:
        pair = slice(ring - 1, ring + 1)
        between = np.interp(LEVEL, correlation[pair][::-1], frequency[pair][::-1])
        found.append(float(between if high[ring - 1] else frequency[ring]))
    return (found[0], 0.5 if high[-1] else found[-1]) if found else (0.5, 0.5)


def dose_for(half_period: float, doses: Sequence[float], half_periods: Sequence[float]) -> float | None:
    """Least photons at which a curve resolves ``half_period``, between doses on log-log lines.

    None where it does not within the doses measured.
    """
    logs, periods = np.log(np.asarray(doses)), np.log(np.asarray(half_periods))
    wanted = np.log(half_period)
    if periods[0] <= wanted:
        return None
    for k in range(1, len(logs)):
        if periods[k] <= wanted:
            part = (periods[k - 1] - wanted) / (periods[k - 1] - periods[k])
            return float(np.exp(logs[k - 1] + part * (logs[k] - logs[k - 1])))
    return None


# ---------------------------------------------------------------------- tables and pictures


COLUMNS = (
    "photons",
    "objective",
    "train CPU s",
    "network: first px",
    "last px",
    "corr",
    "refined: first px",
    "last px",
    "corr",
)
NAMES = [(result, which) for result in ("network", "refined") for which in ("first", "last")]


def half_period(point: Point, result: str, which: str) -> float:
    found: float = getattr(point.scores[result], which)
    return found


def power_of_ten(photons: float) -> str:
    return f"{photons:.0e}".replace("e+0", "e")


def row(photons: float, objective: str, point: Point) -> list[str]:
    scores = [
        cell
        for score in point.scores.values()
        for cell in (f"{score.first:.2f}", f"{score.last:.2f}", f"{score.correlation:.3f}")
    ]
    return [power_of_ten(photons), objective, f"{point.seconds:.0f}", *scores]


def gains(points: Mapping[tuple[float, str], Point], doses: Sequence[float]) -> Iterator[list[str]]:
    """How many times the photons amplitude MAE needs, for what Poisson resolves."""
    poisson, mae = WAYS
    for photons in doses:
        cells = []
        for name in NAMES:
            wanted = half_period(points[photons, poisson], *name)
            periods = [half_period(points[dose, mae], *name) for dose in doses]
            needed = dose_for(wanted, doses, periods)
            if needed is not None:
                cells.append(f"{needed / photons:.1f}")
            elif periods[0] <= wanted:
                cells.append(f"below {doses[0] / photons:.1g}" if photons > doses[0] else "1 or below")
            else:
                cells.append(f"above {doses[-1] / photons:.1g}" if photons < doses[-1] else "above 1")
        yield [power_of_ten(photons), *cells]


def plot(points: Mapping[tuple[float, str], Point], doses: Sequence[float], path: Path) -> None:
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for objective, colour in zip(WAYS, ("C0", "C1"), strict=True):
        for name, style in (("network", "o-"), ("refined", "s--")):
            periods = [half_period(points[photons, objective], name, "first") for photons in doses]
            axis.loglog(doses, periods, style, color=colour, label=f"{objective}, {name}")
    ticks = (1, 1.5, 2, 3, 5, 10, 20)
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("photons a pattern")
    axis.set_ylabel(f"half period at FRC {LEVEL:g} against the truth [px]")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=90)


def pictures(
    experiment: Experiment, points: Mapping[tuple[float, str], Point], doses: Sequence[float], path: Path
) -> None:
    """Aligned phase of the objects, one column a dose."""
    truth, mask = experiment.truth, experiment.mask
    lit_rows, lit_columns = np.where(mask)
    crop = np.s_[lit_rows.min() : lit_rows.max() + 1, lit_columns.min() : lit_columns.max() + 1]
    low, high = np.percentile(np.angle(truth)[mask], (0.5, 99.5))
    lines = [(result, objective) for result in ("network", "refined") for objective in WAYS]
    figure = Figure(figsize=(3 * (len(doses) + 1), 3.2 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (result, objective) in zip(figure.subplots(len(lines), len(doses) + 1), lines, strict=True):
        images = {"truth": truth}
        for photons in doses:
            image = getattr(points[photons, objective], result)
            images[f"{objective}, {result}, {power_of_ten(photons)}"], _ = metrics.align(image, truth, mask)
        for axis, (title, image) in zip(axes, images.items(), strict=True):
            axis.imshow(np.angle(image)[crop], cmap="gray", vmin=low, vmax=high)
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
    figure.savefig(path, dpi=50)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", type=Path, required=True, help="object, probe, positions_rc_px")
    parser.add_argument("--doses", nargs="+", type=float, default=DOSES, help="photons a pattern, ascending")
    parser.add_argument("--architecture", choices=CONFIGS, default="unrolled")
    parser.add_argument("--seed", type=int, default=0, help="of the training; the noise stays")
    parser.add_argument("--images", type=Path, help="folder for the plot and the pictures")
    arguments = parser.parse_args()
    experiment = Experiment(arguments.reference)
    config = replace(CONFIGS[arguments.architecture], subsample_seed=arguments.seed)
    print_header(["torch", "lightning"])
    points: dict[tuple[float, str], Point] = {}

    def measured() -> Iterator[list[str]]:
        for photons in arguments.doses:
            for objective in WAYS:
                points[photons, objective] = experiment.measure(photons, objective, config)
                yield row(photons, objective, points[photons, objective])

    print_table(f"Half period over dose, {arguments.architecture}", COLUMNS, measured())
    print_table(
        "Photons that amplitude MAE needs, over Poisson's, for the same half period",
        ("photons, Poisson", *(f"{result}, {which}" for result, which in NAMES)),
        gains(points, arguments.doses),
    )
    if arguments.images:
        plot(points, arguments.doses, arguments.images / "dose.png")
        pictures(experiment, points, arguments.doses[:PICTURED], arguments.images / "dose_images.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
