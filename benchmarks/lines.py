"""The line pattern of Hoidn et al., Sci. Rep. 13, 22789 (2023): objects that the network has not seen.

    python benchmarks/lines.py --reference DATA/synthetic/truth.npz [--only "C = 1"] [--images FILE.png]

The publication's data are made again as far as they are described: many sharp lines of random place and
orientation, slightly blurred; N = 64, grid scans with overlap over several training objects, 1e9 photons a
pattern; an idealised probe (a disk with a Gaussian edge and no phase), and an experimental one, here that of
``--reference``. What is ours is in the constants below: size of the objects, number and blur of the lines, no
phase, the step. Scores are of the amplitude of an object that no training saw, where there was light.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from _tables import cpu_seconds, print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _network import apply, on_scan, train, untrained
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import line

from ptychopinn_ptychodus.config import ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import raster_positions, simulate_scan
from ptychopinn_ptychodus.pretraining import PretrainingConfig
from ptychopinn_ptychodus.pretraining.objects import ObjectMaker, random_object
from ptychopinn_ptychodus.pretraining.scans import TrainingSet, make_training_set
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine

N = 64
SIZE = 392  # edge of an object, pixels
LINES = 400  # random ends on a canvas of twice the edge, of which the middle is the object
BLUR = 1.0  # standard deviation, pixels
STEP, JITTER = 8.0, 0.2  # of the grid: pixels, and part of a step that each position is off at most
PHOTONS = 1e9  # a pattern, on average over a scan
UNSEEN, SEEN = 0, (1, 2)  # seeds of the object of the table, and of those to learn from
KNOWN = 1  # seed of the made scans of pretraining, whose objects are known; none is one of these three
SCANS, SCANS_OF_OTHERS = {4: 96, 1: 256}, 96  # made, by the table's C; 64 patterns each
NO_LINES = ("texture", "grains", "image")  # kinds of objects that have no lines, stars or blobs drawn in them
DISK, EDGE = N // 4, 1.5  # idealised probe: radius, and standard deviation of the blur, pixels
LONGER = 3  # passes
NEIGHBORS = 6  # to choose the members of a group from
TITLE_WIDTH = 26  # characters that fit above a picture
REFLECTIONS = {4: 50, 1: 200}  # by the table's C, where there are any
SMOOTHNESS = 0.02  # weight of total variation, where it is used

PUBLISHED = {
    ("idealised", 4): (0.952, 71.3),
    ("experimental", 4): (0.968, 73.0),
    ("idealised", 1): (0.620, 60.7),
    ("experimental", 1): (0.904, 68.9),
}
"""Amplitude SSIM and PSNR by probe and C."""

PEAK_255_DB = 20 * np.log10(255.0)


def line_object(seed: int) -> NDArray[np.complex64]:
    """(SIZE, SIZE): blurred lines of amplitude up to 1 on 0, phase 0; cut from a canvas twice as large."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((2 * SIZE, 2 * SIZE))
    for ends in rng.integers(0, 2 * SIZE, (LINES, 4)):
        rows, columns = line(*ends)  # type: ignore[no-untyped-call]
        canvas[rows, columns] = 1.0
    part = slice(SIZE // 2, SIZE // 2 + SIZE)
    blurred = ndimage.gaussian_filter(canvas, BLUR)[part, part]
    return np.asarray(blurred / blurred.max(), np.complex64)


def piece_of_lines(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.complex64]:
    """A piece of another such object, somewhere in it."""
    whole = line_object(int(rng.integers(2**31)) + 1000)
    top, left = (int(rng.integers(SIZE - edge + 1)) for edge in shape)
    return whole[top : top + shape[0], left : left + shape[1]]


def half_lines(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.complex64]:
    """As often of lines as of what ``pretrain`` makes."""
    return piece_of_lines(shape, rng) if rng.random() < 0.5 else random_object(shape, rng)


OBJECTS: dict[str, ObjectMaker] = {
    "half lines": half_lines,
    "no lines": partial(random_object, kinds=NO_LINES),
}
"""What pretraining may learn from."""


def idealised_probe() -> NDArray[np.complex64]:
    """(N, N): a disk with a Gaussian edge, real and positive."""
    axis = np.arange(N) - (N - 1) / 2
    disk = (np.hypot(axis[:, None], axis) <= DISK).astype(float)
    return np.asarray(ndimage.gaussian_filter(disk, EDGE), np.complex64)


def scan_of(object_: NDArray[np.complex64], probe: NDArray[np.complex64], seed: int) -> RawData:
    """A grid scan of all of the object, its positions shaken a little."""
    side = int((SIZE - N - 2 * JITTER * STEP) // STEP) + 1
    first = (SIZE - 1 - (side - 1) * STEP) / 2
    x, y = raster_positions(side, side, STEP, jitter=JITTER, origin=first, seed=seed)
    return simulate_scan(object_, probe, x, y, PHOTONS, seed)


def joined(scans: list[RawData]) -> RawData:
    """Scans of several objects as one, whose patterns are grouped with those of their own scan only."""
    return RawData(
        xcoords=np.concatenate([scan.xcoords for scan in scans]),
        ycoords=np.concatenate([scan.ycoords for scan in scans]),
        diff3d=np.concatenate([scan.diff3d for scan in scans]),
        probeGuess=scans[0].probeGuess,
        scan_index=np.repeat(np.arange(len(scans)), [len(scan) for scan in scans]),
        domain="amplitude",
    )


# ---------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    """A network under one condition; ``channels`` is the table's C."""

    probe: str
    channels: int
    network: str
    training: TrainingConfig
    pretraining: PretrainingConfig | None = None
    objects: str = ""
    untrained: bool = False

    @property
    def data(self) -> str:
        """What it learns from, by number of patterns."""
        if self.untrained:
            return "nothing"
        if self.pretraining is None:
            side = int((SIZE - N - 2 * JITTER * STEP) // STEP) + 1
            return f"{len(SEEN) * side**2} × {self.training.nepochs}, {len(SEEN)} objects of lines"
        made = self.pretraining
        patterns = made.scans * made.groups_per_scan * self.channels
        return f"{patterns} × {self.training.nepochs}, {made.scans} objects, {self.objects}"

    @property
    def condition(self) -> str:
        return f"C = {self.channels}, {self.probe} probe"


def training(architecture: str, channels: int, **changes: Any) -> TrainingConfig:
    gridsize = round(channels**0.5)
    return TrainingConfig(
        model=ModelConfig(
            architecture=architecture,
            gridsize=gridsize,
            n_filters_scale=changes.pop("width", 1),
            reflections=changes.pop("reflections", 0),
        ),
        subsample_seed=0,
        backend="pytorch",
        **{"neighbor_count": NEIGHBORS} | changes,
    )


def known_objects(
    channels: int, scans: int, width: int, reflections: int = 0, **weights: float
) -> dict[str, Any]:
    """Training and data of a network that learns from made scans whose objects it is told."""
    gridsize = round(channels**0.5)
    weights = {"realspace_aligned_weight": 1.0, "nll_weight": 0.0, **weights}
    single = channels == 1
    made = PretrainingConfig(
        scans=scans,
        validation_scans=3,
        size=N,
        gridsize=gridsize,
        neighbor_count=NEIGHBORS,
        visits=1 if single else 2,
        least_photons=1e6,
        most_photons=PHOTONS,
        most_step=0.5 if single else 0.35,
        seed=KNOWN,
    )
    config = training(
        "unrolled",
        channels,
        width=width,
        reflections=reflections,
        batch_size=16 // channels,
        nepochs=1,
        n_groups=scans * made.groups_per_scan,
        probe_trainable=False,
        intensity_scale_trainable=False,
        **weights,
    )
    return {"training": config, "pretraining": made}


@dataclass(frozen=True)
class Outcome:
    """Objects that came of one row, by the name of the way, and the comparison of each with the truth."""

    objects: Mapping[str, NDArray[np.complexfloating]]
    scores: Mapping[str, metrics.Comparison]
    seconds: float


class Condition:
    """An unseen object under one probe, and what there is to learn from."""

    def __init__(self, probe: NDArray[np.complex64], unseen: int) -> None:
        self.probe = probe
        self.truth = line_object(unseen)
        self.test = scan_of(self.truth, probe, unseen)
        self.mask = metrics.illumination_mask(probe, self.test.xcoords, self.test.ycoords, self.truth.shape)

    def score(self, object_: NDArray[np.complexfloating]) -> metrics.Comparison:
        return metrics.compare(object_, self.truth, self.mask)

    def refined(self, start: NDArray[np.complexfloating], probe: Any) -> NDArray[np.complex64]:
        return refine(self.test, start, probe, RefinementConfig(), device="cpu").object

    def pretrained(self, row: Row, config: PretrainingConfig) -> tuple[Any, float]:
        """A network of made scans with known objects, for this scan; the seconds include the making."""
        made: list[TrainingSet] = []
        probe = self.probe.reshape(-1, N, N)
        make_object = OBJECTS[row.objects]
        making = cpu_seconds(lambda: made.append(make_training_set(config, [probe], make_object=make_object)))
        module, seconds = train(made[0].training, row.training, validation=made[0].validation)
        return on_scan(module, self.test, row.training), making + seconds

    def measure(self, row: Row, *, network_only: bool) -> Outcome:
        if row.untrained:
            config, seconds = row.training, 0.0
            module: Any = untrained(self.test, config)
        elif row.pretraining is None:
            scans = joined([scan_of(line_object(seed), self.probe, seed) for seed in SEEN])
            config = replace(row.training, n_groups=len(scans))
            module, seconds = train(scans, config)
        else:
            module, seconds = self.pretrained(row, row.pretraining)
            config = row.training
        objects = {"network": apply(module, self.test, config, self.truth.shape)}
        if not network_only:
            probe = module.counts_probe().detach().numpy()
            objects["refined"] = self.refined(objects["network"], probe)
        return Outcome(objects, {name: self.score(one) for name, one in objects.items()}, seconds)


def rows() -> list[Row]:
    """All conditions, and for the hard ones what might help."""
    found = []
    for channels in (4, 1):
        for probe in ("experimental", "idealised"):
            told = known_objects(channels, SCANS[channels], 1)
            found.append(Row(probe, channels, "unrolled, known objects", **told, objects="half lines"))
            plain = training("unrolled", channels, batch_size=4, nepochs=1)
            found.append(Row(probe, channels, "unrolled", plain))
            if (channels, probe) == (4, "idealised"):
                longer = replace(plain, nepochs=LONGER)
                found.append(Row(probe, channels, f"unrolled, {LONGER} passes", longer))
                nearest = replace(plain, neighbor_count=3, nll_weight=0.0, mae_weight=1.0)
                found.append(Row(probe, channels, "unrolled, amplitude MAE, nearest neighbours", nearest))
            found += with_reflections(probe, channels)
            if channels == 1:
                other = known_objects(channels, SCANS_OF_OTHERS, 1)
                name = "unrolled, known objects, no lines"
                found.append(Row(probe, channels, name, **other, objects="no lines"))
                smooth = replace(plain, realspace_weight=SMOOTHNESS)
                found.append(Row(probe, channels, f"unrolled, smoothness {SMOOTHNESS:g}", smooth))
                cnn = training("cnn", channels, batch_size=4, nepochs=2, nll_weight=0.0, mae_weight=1.0)
                found.append(Row(probe, channels, "cnn, amplitude MAE", cnn))
    return found


def with_reflections(probe: str, channels: int) -> list[Row]:
    """Networks whose steps come after a search: one that has learnt nothing, and others."""
    count = REFLECTIONS[channels]
    before = f"{count} reflections"
    changes = {"batch_size": 4, "nepochs": 1, "neighbor_count": 3, "nll_weight": 0.0, "mae_weight": 1.0}
    plain = training("unrolled", channels, reflections=count, **changes)
    found = [
        Row(probe, channels, f"unrolled, {before}, untrained", plain, untrained=True),
        Row(probe, channels, f"unrolled, {before}, amplitude MAE", plain),
    ]
    if channels == 1:
        for objects, scans in (("half lines", SCANS_OF_OTHERS), ("no lines", SCANS_OF_OTHERS)):
            told = known_objects(channels, scans, 1, count)
            found.append(Row(probe, channels, f"unrolled, {before}, {objects}", **told, objects=objects))
    return found


# ---------------------------------------------------------------------- table and pictures

COLUMNS = (
    "condition",
    "published SSIM, PSNR (−48.1)",
    "network",
    "learns from, patterns × passes",
    "train CPU s",
    "network: SSIM",
    "PSNR",
    "corr",
    "refined: SSIM",
    "PSNR",
    "corr",
)


def cells(score: metrics.Comparison) -> list[str]:
    amplitude = score.amplitude
    return [f"{amplitude.ssim:.3f}", f"{amplitude.psnr_db:.1f}", f"{score.complex_correlation_centred:.3f}"]


def pictures(outcomes: Mapping[Row, Outcome], conditions: Mapping[str, Condition], path: Path) -> None:
    """Aligned amplitudes of the middle of the unseen object: the networks' above, refined below."""
    middle = slice(SIZE // 2 - N, SIZE // 2 + N)
    ways = max(len(outcome.objects) for outcome in outcomes.values())
    figure = Figure(figsize=(2.2 * (len(outcomes) + 1), 2.6 * ways), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(ways, len(outcomes) + 1, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].set_title("truth", fontsize=8)
    truth = next(iter(conditions.values())).truth
    axes[0, 0].imshow(np.abs(truth)[middle, middle], cmap="gray", vmin=0, vmax=1)
    for column, (row, outcome) in zip(axes.T[1:], outcomes.items(), strict=True):
        condition = conditions[row.probe]
        for axis, (name, image) in zip(column, outcome.objects.items(), strict=False):
            score = outcome.scores[name]
            aligned, _ = metrics.align(image, condition.truth, condition.mask)
            axis.imshow(np.abs(aligned)[middle, middle], cmap="gray", vmin=0, vmax=1)
            label = textwrap.fill(row.network, TITLE_WIDTH)
            axis.set_title(f"{row.condition}\n{label}\n{name}: SSIM {score.amplitude.ssim:.3f}", fontsize=7.5)
    figure.savefig(path, dpi=75)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", type=Path, required=True, help="its probe is the experimental one")
    parser.add_argument("--only", default="", help="rows whose condition and network contain this")
    parser.add_argument("--unseen", type=int, default=UNSEEN, help="seed of the object of the table")
    parser.add_argument("--network-only", action="store_true", help="refine nothing")
    parser.add_argument("--images", type=Path, help="file for the pictures of these rows")
    arguments = parser.parse_args()
    with np.load(arguments.reference) as file:
        probes = {"experimental": file["probe"], "idealised": idealised_probe()}
    conditions = {name: Condition(probe, arguments.unseen) for name, probe in probes.items()}
    outcomes: dict[Row, Outcome] = {}
    print_header(["torch", "lightning"])

    def measured() -> Iterator[list[str]]:
        for row in rows():
            if arguments.only not in f"{row.condition}, {row.network}":
                continue
            outcome = conditions[row.probe].measure(row, network_only=arguments.network_only)
            outcomes[row] = outcome
            ssim, psnr = PUBLISHED[row.probe, row.channels]
            yield [
                row.condition,
                f"{ssim:.3f}, {psnr:.1f} ({psnr - PEAK_255_DB:.1f})",
                row.network,
                row.data,
                f"{outcome.seconds:.0f}",
                *(cell for score in outcome.scores.values() for cell in cells(score)),
            ]

    columns = COLUMNS[:-3] if arguments.network_only else COLUMNS
    print_table("Amplitude of an object that was not trained on", columns, measured())
    if arguments.images:
        pictures(outcomes, conditions, arguments.images)
    if arguments.network_only:
        return 0
    print_table(
        f"Refinement from a flat object, {RefinementConfig().epochs} epochs, no network",
        ("probe", "SSIM", "PSNR", "corr"),
        (
            [name, *cells(condition.score(condition.refined(np.ones_like(condition.truth), condition.probe)))]
            for name, condition in conditions.items()
        ),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
