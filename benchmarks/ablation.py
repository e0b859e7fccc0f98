"""What each idea brings: short trainings on one scan that differ from a base in one thing.

    python benchmarks/ablation.py --scan DIR/synthetic --reference DIR/synthetic/truth.npz
    python benchmarks/ablation.py --scan DIR/siemens_star --reference DIR/siemens_star/reference.npz --modes 3

Every row is one seed, trained from the scan alone on one thread for half a minute to a minute. Scores are
against the reference where it shows light; "joined" is with one phase a group fitted before stitching (as
the plugin does it), "as they are" without. "varies" is how much of the patches is not the same for all: their
root mean square distance from the mean patch, over their root mean square, in the central half.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _network import EXECUTION, train
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptychopinn_ptychodus.backends.lightning.inference import predict
from ptychopinn_ptychodus.config import ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.stitching import stitch
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory

BASE_MODEL = ModelConfig(architecture="unrolled", gridsize=2, n_filters_scale=1)
BASE = TrainingConfig(
    model=BASE_MODEL, nepochs=2, batch_size=4, neighbor_count=6, subsample_seed=0, backend="pytorch"
)
CNN = ModelConfig(architecture="cnn", n_filters_scale=1)
CNN_RUNS = ((5e-4, 0), (2e-3, 0), (2e-3, 1))
"""Learning rates and seeds by which the robustness of ``cnn`` is judged."""


@dataclass(frozen=True)
class Row:
    """One training; ``groups`` is the number of groups an epoch, over the number of patterns."""

    name: str
    training: TrainingConfig
    learning_rate: float = EXECUTION.learning_rate
    groups: float = 1.0


def rows(modes: int) -> list[Row]:
    """All of them; ``modes`` > 0: with the probe learnt, of so many modes."""
    base = replace(BASE, probe_trainable=True, probe_modes=modes) if modes else BASE
    single, nine = replace(BASE_MODEL, gridsize=1), replace(BASE_MODEL, gridsize=3)
    result = [
        Row("base: unrolled, gridsize 2", base),
        Row("gridsize 1", replace(base, model=single, batch_size=8, nepochs=4)),
        Row("gridsize 3", replace(base, model=nine, neighbor_count=11, batch_size=2, nepochs=1)),
        Row("object_big off", replace(base, model=replace(BASE_MODEL, object_big=False), nepochs=1)),
        Row("a quarter as many groups, 8 epochs", replace(base, nepochs=8), groups=0.25),
        Row("twice as many groups, 1 epoch", replace(base, nepochs=1), groups=2.0),
    ]
    if modes:
        result.append(Row("probe as given", BASE))
    for kind, config in (
        ("cnn, gridsize 1", replace(base, model=CNN)),
        ("cnn, gridsize 2", replace(base, model=replace(CNN, gridsize=2))),
    ):
        for rate, seed in CNN_RUNS:
            name = f"{kind}, learning rate {rate:g}, seed {seed}"
            result.append(Row(name, replace(config, subsample_seed=seed), rate))
    return result


def measure(row: Row, raw: RawData, reference: dict[str, Any], pictures: Path | None) -> list[str]:
    """Train, reconstruct and score one row; its cells."""
    truth, mask = reference["object"], reference["mask"]
    execution = replace(EXECUTION, learning_rate=row.learning_rate)
    config = replace(row.training, n_groups=math.ceil(row.groups * raw.n_patterns))
    module, seconds = train(raw, config, execution)
    gridsize = config.model.gridsize
    container = raw.generate_grouped_data(raw.N, config.neighbor_count, None, gridsize=gridsize, seed=0)
    prediction = predict(module, container, execution)
    patches, weight = prediction.patches, prediction.weight
    x, y = container.coords[container.nn_indices.ravel()].T
    apart = stitch(patches.reshape(-1, raw.N, raw.N), x, y, truth.shape, weight=weight).object
    joined = prediction.stitch(container, truth.shape).object
    before, after = (metrics.compare(image, truth, mask) for image in (apart, joined))
    if pictures is not None:
        draw(metrics.align(joined, truth, mask)[0], pictures / f"{row.name.replace(' ', '_')}.png")
    central = patches[..., raw.N // 4 : -raw.N // 4, raw.N // 4 : -raw.N // 4]
    central = central.reshape(-1, *central.shape[-2:])
    varies = np.linalg.norm(central - central.mean(0)) / np.linalg.norm(central)
    values = (before.complex_correlation_centred, after.complex_correlation_centred)
    scores = (*values, after.amplitude.ssim, after.phase.ssim, varies)
    last_loss = module.history["train_loss"][-1]
    return [row.name, f"{seconds:.0f}", f"{last_loss:.4f}", *(f"{score:.3f}" for score in scores)]


def draw(image: Any, path: Path) -> None:
    """Amplitude and phase as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, part, title in zip(
        figure.subplots(1, 2), (np.abs(image), np.angle(image)), ("amplitude", "phase [rad]"), strict=True
    ):
        low, high = np.percentile(part, (1, 99))
        figure.colorbar(axes.imshow(part, cmap="gray", vmin=low, vmax=high), ax=axes, shrink=0.7)
        axes.set_title(title)
    figure.savefig(path, dpi=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scan", type=Path, required=True, help="Ptychodus standard directory")
    parser.add_argument("--reference", type=Path, required=True, help="object, probe, positions_rc_px")
    parser.add_argument("--modes", type=int, default=0, help="learn the probe, of so many modes")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name contains one of these")
    parser.add_argument("--pictures", type=Path, help="where to draw what each row makes of the scan")
    arguments = parser.parse_args()
    raw = read_standard_directory(arguments.scan)
    with np.load(arguments.reference) as file:
        positions, probe, truth = file["positions_rc_px"], file["probe"], file["object"]
    mask = metrics.illumination_mask(probe, positions[:, 1], positions[:, 0], truth.shape)
    print_header(["torch", "lightning"])
    scores = ["corr as they are", "corr joined", "amp SSIM", "phase SSIM", "varies"]
    columns = ["idea", "train CPU s", "last loss", *scores]
    chosen = (row for row in rows(arguments.modes) if any(part in row.name for part in arguments.only))
    reference = {"object": truth, "mask": mask}
    measured = (measure(row, raw, reference, arguments.pictures) for row in chosen)
    print_table(f"Ideas on {arguments.scan.name}", columns, measured)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
