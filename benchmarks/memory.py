"""Peak memory against the size of a scan, each stage in a fresh process.

    python benchmarks/memory.py [--quick]

A stage does what the stages before it do, and then its own: its peak is that of a process that goes so far.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _tables import in_fresh_process, peak_mb, print_header, print_table, use_one_thread

STEPS = 4
BATCH = 16


# ---- the child --------------------------------------------------------------------------------------------


def stage(name: str, patterns: int, size: int, gridsize: int) -> dict[str, Any]:
    """Go as far as ``name``; peak MB of the process, and CPU seconds."""
    framework = import_needed(model=name not in ("imports", "scan", "grouping"))
    imported = peak_mb()
    if "imports" not in name:
        counts = make_counts(patterns, size)
        raw = make_raw(counts)
        del counts
        if name != "scan":
            container = raw.generate_grouped_data(size, 4, None, gridsize=gridsize, seed=0)
            if framework:
                framework(container, training=name == "training")
    return {"peak": peak_mb(), "imported": imported, "cpu": time.process_time()}


def import_needed(*, model: bool) -> Any:
    import ptychopinn_ptychodus.data.assembly
    import ptychopinn_ptychodus.data.raw
    import ptychopinn_ptychodus.data.simulation

    if not model:
        return None
    import torch

    import ptychopinn_ptychodus.backends.lightning.components
    import ptychopinn_ptychodus.backends.lightning.inference
    import ptychopinn_ptychodus.backends.lightning.training  # noqa: F401

    torch.set_num_threads(1)
    return train_or_infer


def make_counts(patterns: int, size: int) -> Any:
    """(M, N, N) uint16 of plausible brightness, without the memory that a simulation would take."""
    import numpy as np

    rng = np.random.default_rng(0)
    axis = np.arange(size) - size / 2
    mean = 400 * np.exp(-(axis[:, None] ** 2 + axis**2) / (0.1 * size) ** 2)
    counts = np.empty((patterns, size, size), np.uint16)
    for pattern in counts:
        pattern[:] = rng.poisson(mean)
    return counts


def make_raw(counts: Any) -> Any:
    from ptychopinn_ptychodus.data import simulation
    from ptychopinn_ptychodus.data.raw import RawData

    patterns, size, _ = counts.shape
    side = math.ceil(math.sqrt(patterns))
    x, y = simulation.raster_positions(side, side, 0.1 * size, origin=size)
    probe = simulation.make_probe(size)
    return RawData(xcoords=x[:patterns], ycoords=y[:patterns], diff3d=counts, probeGuess=probe)


def train_or_infer(container: Any, *, training: bool) -> None:

    from ptychopinn_ptychodus.backends.base import Prediction
    from ptychopinn_ptychodus.backends.lightning.engine import LightningEngine
    from ptychopinn_ptychodus.backends.lightning.inference import predict_patches
    from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning
    from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig

    size = container.N
    model = ModelConfig(N=size, gridsize=container.gridsize, n_filters_scale=1, architecture="unrolled")
    with tempfile.TemporaryDirectory() as directory:
        groups = BATCH // model.channels
        config = TrainingConfig(model=model, batch_size=groups, nepochs=1, output_dir=Path(directory))
        execution = ExecutionConfig(accelerator="cpu")
        if training:
            steps = itertools.count(1)
            LightningEngine().train(
                container,
                None,
                config,
                execution,
                model_path=Path(directory) / "model.ckpt",
                should_stop=lambda: next(steps) >= STEPS,
            )
            return
        module = PtychoPINN_Lightning.for_data(container, config, execution)
        patches = predict_patches(module, container, execution)
        extent = math.ceil(max(container.coords.max(axis=0))) + size
        Prediction(patches, container.probe).stitch(container, (extent, extent))


# ---- the parent -------------------------------------------------------------------------------------------


def measure(name: str, patterns: int = 0, size: int = 0, gridsize: int = 1) -> dict[str, Any]:
    # standard library only up to here: a child's peak starts at its parent's
    return in_fresh_process([__file__, "--child", name, str(patterns), str(size), str(gridsize)])


def rows(scans: list[tuple[int, int]]) -> Iterator[tuple[Any, ...]]:
    for patterns, size in scans:
        scan_mb = patterns * size**2 * 2 / 1e6
        columns = [("scan", 1), ("grouping", 2), ("training", 1), ("training", 2), ("inference", 1)]
        cells = []
        for name, gridsize in [*columns, ("inference", 2)]:
            result = measure(name, patterns, size, gridsize)
            above = result["peak"] - result["imported"]
            cells.append(f"{result['peak']:.0f} (+{above:.0f})")
        yield f"{patterns:,} × {size}²", f"{scan_mb:.0f}", *cells


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, *numbers = sys.argv[2:]
        print(json.dumps(stage(name, *map(int, numbers))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="see that it works: two small scans")
    quick = parser.parse_args().quick
    use_one_thread()
    scans = [(100, 64), (400, 64)] if quick else [(500, 64), (2000, 64), (8000, 64), (500, 128)]
    print_header(("ptychopinn-ptychodus", "torch", "numpy"))
    data_only, framework = (measure(name)["peak"] for name in ("imports", "framework imports"))
    print_table(
        "Peak memory, MB",
        (
            "scan",
            "counts",
            "`RawData`",
            "grouping C = 4",
            "training C = 1",
            "training C = 4",
            "inference C = 1",
            "inference C = 4",
        ),
        rows(scans),
        "Largest resident memory of a fresh process, and (+) how much more that is than after imports, which "
        f"alone take {data_only:.0f} MB (data) and {framework:.0f} MB (with PyTorch and Lightning). Counts: "
        "the scan as uint16, held while `RawData` is made of it, and let go after; grouping that stays below "
        "this peak adds nothing to it. Training: `unrolled`, `n_filters_scale` 1, "
        f"{STEPS} steps of {BATCH} patterns by Lightning's trainer, from the scan in memory. Inference: the "
        "same network, every pattern an anchor, then `assemble`: one phase for all "
        "patches, stitching.",
    )


if __name__ == "__main__":
    main()
