"""What each idea brings: short trainings on one scan that differ from a base in one thing.

    python benchmarks/ablation.py --scan DIR/synthetic --reference DIR/synthetic/truth.npz

Every row is one seed, trained from the scan alone on one thread for about the same CPU time. Scores are
against the reference where it shows light; "joined" is with one phase a group fitted before stitching (as
the plugin does it), "as they are" without.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np

from ptychopinn_ptychodus.backends.lightning.components import train_cdi_model_torch
from ptychopinn_ptychodus.backends.lightning.inference import predict_patches
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.assembly import assemble
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.stitching import stitch
from ptychopinn_ptychodus.plugin.ingest import read_standard_directory

BASE_MODEL = ModelConfig(architecture="unrolled", gridsize=2)
BASE = TrainingConfig(
    model=BASE_MODEL, nepochs=2, batch_size=4, neighbor_count=6, subsample_seed=0, backend="pytorch"
)
EXECUTION = ExecutionConfig(
    accelerator="cpu",
    learning_rate=2e-3,
    scheduler="one_cycle",
    gradient_clip_val=1.0,
    logger_backend="none",
)
CNN = ModelConfig(architecture="cnn", n_filters_scale=1)

Row = tuple[str, TrainingConfig, ExecutionConfig]


def rows() -> list[Row]:
    """Name, training and execution of every row."""
    single = replace(BASE_MODEL, gridsize=1)
    return [
        ("base: unrolled, gridsize 2, Poisson NLL, one-cycle", BASE, EXECUTION),
        ("gridsize 1", replace(BASE, model=single, batch_size=8, nepochs=4), EXECUTION),
        (
            "gridsize 3",
            replace(BASE, model=replace(BASE_MODEL, gridsize=3), neighbor_count=11, batch_size=2, nepochs=1),
            EXECUTION,
        ),
        (
            "object_big off: frames apart",
            replace(BASE, model=replace(BASE_MODEL, object_big=False)),
            EXECUTION,
        ),
        ("amplitude MAE", replace(BASE, nll_weight=0.0, mae_weight=1.0), EXECUTION),
        ("reduce on plateau", BASE, replace(EXECUTION, scheduler="plateau")),
        ("learning rate 1e-3", BASE, replace(EXECUTION, learning_rate=1e-3)),
        ("half the width, twice the epochs", _half_width(), EXECUTION),
        ("probe learnt", replace(BASE, probe_trainable=True), EXECUTION),
        ("probe learnt, 3 modes", replace(BASE, probe_trainable=True, probe_modes=3), EXECUTION),
        ("cnn, gridsize 1", replace(BASE, model=CNN, batch_size=16, nepochs=8), EXECUTION),
        ("cnn, gridsize 1, amplitude MAE", _cnn(mae_weight=1.0, nll_weight=0.0), EXECUTION),
        (
            "cnn, gridsize 1, plateau at 1e-3",
            _cnn(),
            ExecutionConfig(accelerator="cpu", logger_backend="none"),
        ),
        ("cnn, gridsize 2", _cnn_groups(), EXECUTION),
        ("cnn, gridsize 2, learning rate 5e-4", _cnn_groups(), replace(EXECUTION, learning_rate=5e-4)),
    ]


def _half_width() -> TrainingConfig:
    return replace(BASE, model=replace(BASE_MODEL, n_filters_scale=1), nepochs=4)


def _cnn(**changes: Any) -> TrainingConfig:
    return replace(BASE, model=CNN, batch_size=16, nepochs=8, **changes)


def _cnn_groups() -> TrainingConfig:
    return replace(BASE, model=replace(CNN, gridsize=2), nepochs=6)


def measure(row: Row, raw: RawData, reference: dict[str, Any]) -> list[str]:
    """Train, reconstruct and score one row; its cells."""
    name, config, execution = row
    truth, mask = reference["object"], reference["mask"]
    with tempfile.TemporaryDirectory() as output:
        size = replace(config.model, N=raw.N)
        config = replace(config, model=size, n_groups=raw.n_patterns, output_dir=Path(output))
        started = time.process_time()
        module = train_cdi_model_torch(raw, None, config, execution)["models"]["lightning_module"]
        seconds = time.process_time() - started
    container = raw.generate_grouped_data(
        raw.N, config.neighbor_count, None, gridsize=size.gridsize, seed=config.subsample_seed
    )
    patches = predict_patches(module, container, execution)
    weight = (np.abs(module.counts_probe().detach().numpy()) ** 2).sum(0)
    x, y = container.coords[container.nn_indices.ravel()].T
    apart = stitch(patches.reshape(-1, raw.N, raw.N), x, y, truth.shape, weight=weight).object
    joined = assemble(patches, container.nn_indices, container.coords, truth.shape, weight).object
    before, after = (metrics.compare(image, truth, mask) for image in (apart, joined))
    values = (before.complex_correlation_centred, after.complex_correlation_centred)
    scores = (*values, after.amplitude.ssim, after.phase.ssim)
    parameters = sum(p.numel() for p in module.network.parameters())
    return [name, f"{parameters / 1e6:.2f} M", f"{seconds:.0f}", *(f"{score:.3f}" for score in scores)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scan", type=Path, required=True, help="Ptychodus standard directory")
    parser.add_argument("--reference", type=Path, required=True, help="object, probe, positions_rc_px")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name contains one of these")
    arguments = parser.parse_args()
    raw = read_standard_directory(arguments.scan)
    with np.load(arguments.reference) as file:
        positions, probe, truth = file["positions_rc_px"], file["probe"], file["object"]
    mask = metrics.illumination_mask(probe, positions[:, 1], positions[:, 0], truth.shape)
    print_header(["torch", "lightning"])
    columns = ["idea", "weights", "train CPU s", "corr as they are", "corr joined", "amp SSIM", "phase SSIM"]
    chosen = (row for row in rows() if any(part in row[0] for part in arguments.only))
    measured = (measure(row, raw, {"object": truth, "mask": mask}) for row in chosen)
    print_table(f"Ideas on {arguments.scan.name}", columns, measured)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
