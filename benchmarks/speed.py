"""Speed in CPU seconds of one thread: training, inference, stitching and grouping.

    python benchmarks/speed.py [--quick] [--tables train infer stitch group]

Stitching and grouping are compared with the loop that one would write first, in the same run.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from _tables import alternated, cpu_seconds, print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from ptychopinn_ptychodus.backends.base import Prediction
from ptychopinn_ptychodus.backends.lightning.inference import predict_patches
from ptychopinn_ptychodus.backends.lightning.loaders import GroupDataset, build_loader
from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning
from ptychopinn_ptychodus.config import ARCHITECTURES, ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics, simulation
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.grouping import group_neighbours
from ptychopinn_ptychodus.data.interpolation import patch_corners
from ptychopinn_ptychodus.data.stitching import stitch

BATCH = 16
NEIGHBOURS = 4
WARM_UP = 2
LONGEST_LOOP_S = 20.0

# PtychoPINN's public code, torch engine, measured elsewhere (n_filters_scale 2, batch 16): (N, gridsize) to
# patterns per CPU second of training, and of inference without stitching
PEER = {(64, 1): (11.3, 33.0), (64, 2): (44.0, 124.0), (128, 1): (4.3, 11.4)}
PEER_NOTE = (
    "PtychoPINN: for reference, not measured in this run but elsewhere, on another processor, so take no "
    "ratio; its default convolutional network, torch engine, `n_filters_scale` 2"
)

Rows = Iterator[tuple[Any, ...]]


def make_scan(size: int, patterns: int) -> Any:
    """A simulated scan with the overlap of a usual one: steps of a tenth of the pattern's edge."""
    side = math.ceil(math.sqrt(patterns))
    step = 0.1 * size
    x, y = simulation.raster_positions(side, side, step, origin=size / 2 + step, seed=0)
    extent = math.ceil((side + 1) * step + size)
    object_ = simulation.make_object((extent, extent))
    x, y = x[:patterns], y[:patterns]
    return simulation.simulate_scan(object_, simulation.make_probe(size), x, y, 1e6, seed=0)


def make_module(container: PtychoDataContainer, architecture: str, scale: int) -> PtychoPINN_Lightning:
    model = ModelConfig(
        N=container.N, gridsize=container.gridsize, n_filters_scale=scale, architecture=architecture
    )
    torch.manual_seed(0)
    return PtychoPINN_Lightning.for_data(
        container, TrainingConfig(model=model), ExecutionConfig(accelerator="cpu", scheduler="constant")
    )


def models(sizes: tuple[int, ...], patterns: dict[int, int]) -> Iterator[tuple[str, int, int, int, Any, Any]]:
    """Every row of the first two tables: its four parameters, a container and a module."""
    scans = {size: make_scan(size, patterns[size]) for size in sizes}
    for architecture, size, gridsize in itertools.product(ARCHITECTURES, sizes, (1, 2)):
        container = scans[size].generate_grouped_data(size, NEIGHBOURS, None, gridsize=gridsize, seed=0)
        for scale in (1, 2):
            yield architecture, size, gridsize, scale, container, make_module(container, architecture, scale)


def peer(architecture: str, size: int, gridsize: int, scale: int, column: int) -> str:
    known = architecture == "cnn" and scale == 2 and (size, gridsize) in PEER
    return f"{PEER[size, gridsize][column]:g}" if known else ""


# ---- training and inference -------------------------------------------------------------------------------


def training(sizes: tuple[int, ...], budget: float) -> Rows:
    """Whole steps, as training makes them, and the network's part of them, in turn."""
    row: list[Any]
    for *row, container, module in models(sizes, dict.fromkeys(sizes, 64)):
        groups = BATCH // container.gridsize**2
        loader = build_loader(
            GroupDataset(container, module.data_config.input_scale), groups, ExecutionConfig(), shuffle=True
        )
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        batch = next(batches)
        optimizer = module.configure_optimizers()
        step = functools.partial(take_step, module, optimizer, batches)
        bare = functools.partial(network_alone, module, batch)
        for _ in range(WARM_UP):
            step()
        bare()
        whole, network = alternated((step, bare), budget)
        parameters = sum(p.numel() for p in module.network.parameters())
        yield (
            *row,
            f"{parameters / 1e6:.2f}",
            f"{whole:.3f}",
            f"{BATCH / whole:.1f}",
            f"{100 * network / whole:.0f} %",
            peer(row[0], row[1], row[2], row[3], 0),
        )


def take_step(module: PtychoPINN_Lightning, optimizer: Any, batches: Iterator[Any]) -> None:
    loss = module.training_step(next(batches), 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def network_alone(module: PtychoPINN_Lightning, batch: Any) -> None:
    """Forward and backward through the network, with nothing around it but a sum."""
    probe = module.network_probe().detach()
    patches = module.network(batch["amplitude"], batch["offsets"], probe, module.good_pixels)
    module.network.zero_grad()
    torch.view_as_real(patches).sum().backward()


def inference(sizes: tuple[int, ...], patterns: dict[int, int]) -> Rows:
    """Every pattern an anchor, as in a reconstruction: with gridsize 2 the network sees each four times."""
    execution = ExecutionConfig(accelerator="cpu")
    row: list[Any]
    for *row, container, module in models(sizes, patterns):
        count = len(container)
        first = group_part(container, slice(0, 8))
        predict_patches(module, first, execution)  # warm-up
        started = time.process_time()
        patches = predict_patches(module, container, execution)
        network = time.process_time() - started
        shape = container.object_guess.shape
        prediction = Prediction(patches, module.counts_probe().detach().numpy())
        assembly = cpu_seconds(functools.partial(prediction.stitch, container, shape))
        total = network + assembly
        yield (
            *row,
            count,
            f"{count / total:.1f}",
            f"{container.nn_indices.size / total:.1f}",
            f"{100 * assembly / total:.1f} %",
            peer(row[0], row[1], row[2], row[3], 1),
        )


def group_part(container: PtychoDataContainer, part: slice) -> PtychoDataContainer:
    """Some of the groups."""
    names = ("nn_indices", "coords_offsets", "coords_relative")
    parts = {name: getattr(container, name)[part] for name in names}
    shared = {name: getattr(container, name) for name in ("amplitude", "coords", "probe", "bad_pixels")}
    return PtychoDataContainer(**parts, **shared)


# ---- stitching --------------------------------------------------------------------------------------------


def stitch_loop(patches: Any, x: Any, y: Any, shape: tuple[int, int], weight: Any) -> Any:
    """The straightforward way: shift each weighted patch to where it lies, add, divide at the end."""
    n = patches.shape[-1]
    total, coverage = np.zeros(shape, complex), np.zeros(shape)
    columns, fraction_x = patch_corners(x, n)
    rows, fraction_y = patch_corners(y, n)
    for patch, row, column, dy, dx in zip(patches, rows, columns, fraction_y, fraction_x, strict=True):
        window = np.s_[row : row + n + 1, column : column + n + 1]
        total[window] += ndimage.shift(np.pad(patch * weight, (0, 1)), (dy, dx), order=3)
        coverage[window] += ndimage.shift(np.pad(weight, (0, 1)), (dy, dx), order=3)
    lit = coverage > 0.01 * np.median(coverage[coverage > 0.05 * coverage.max()])
    return np.where(lit, total / np.where(lit, coverage, 1.0), 1.0)


def stitching(count: int, repeats: int) -> Rows:
    """True patches of a known object, weighted by the probe, in both ways."""
    size = 64
    x, y = simulation.raster_positions(40, math.ceil(count / 40), 6.4, origin=size, seed=0)
    x, y = x[:count], y[:count]
    shape = (math.ceil(y.max()) + size, math.ceil(x.max()) + size)
    truth, probe = simulation.make_object(shape), simulation.make_probe(size)
    weight = np.sum(np.abs(probe) ** 2, axis=0)
    patches = simulation.extract_patches(truth, x, y, size)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "this package": lambda: stitch(patches, x, y, shape, weight=weight).object,
        "loop: `ndimage.shift(order=3)`, add": lambda: stitch_loop(patches, x, y, shape, weight),
    }
    seconds = alternated(list(ways.values()), 0.0, repeats)
    mask = metrics.illumination_mask(probe, x, y, shape)
    for (name, way), spent in zip(ways.items(), seconds, strict=True):
        scores = metrics.compare(way(), truth, mask)
        yield (
            name,
            f"{spent:.3f}",
            f"{seconds[1] / spent:.1f}×",
            f"{scores.amplitude.ssim:.4f}",
            f"{scores.phase.ssim:.4f}",
        )


# ---- grouping ---------------------------------------------------------------------------------------------


def sort_loop(coords: Any, anchors: Any, rng: Any) -> Any:
    """Per anchor: distances to all, sorted; the straightforward way without a tree."""
    groups = []
    for anchor in anchors:
        distance = np.hypot(*(coords - coords[anchor]).T)
        near = np.argsort(distance)[1 : NEIGHBOURS + 1]
        groups.append([anchor, *rng.choice(near, 3, replace=False)])
    return np.array(groups)


def tree_loop(coords: Any, anchors: Any, rng: Any) -> Any:
    """Per anchor: one query of a tree."""
    tree = cKDTree(coords)
    groups = []
    for anchor in anchors:
        near = tree.query(coords[anchor], k=NEIGHBOURS + 1)[1][1:]
        groups.append([anchor, *rng.choice(near, 3, replace=False)])
    return np.array(groups)


def grouping(counts: tuple[int, ...], repeats: int) -> Rows:
    """Groups of four for every position of a scan."""
    for count in counts:
        side = math.ceil(math.sqrt(count))
        coords = np.stack(simulation.raster_positions(side, side, 6.4), axis=-1)[:count]
        ours, tree = alternated(
            (
                functools.partial(group_neighbours, coords, 2, NEIGHBOURS, None, seed=0),
                functools.partial(tree_loop, coords, np.arange(count), np.random.default_rng(0)),
            ),
            0.0,
            repeats,
        )
        sorting, extent = bounded(coords)
        for name, spent in (
            ("this package", ours),
            ("loop: one cKDTree query an anchor", tree),
            (f"loop: sort all distances{extent}", sorting),
        ):
            yield f"{count:,}", name, f"{spent:.4f}", f"{spent / ours:.0f}×"


def bounded(coords: Any) -> tuple[float, str]:
    """CPU seconds of the sorting loop; scaled up from its first anchors where it would take too long."""
    count, rng = len(coords), np.random.default_rng(0)
    few = min(200, count)
    slice_s = cpu_seconds(lambda: sort_loop(coords, np.arange(few), rng))
    if slice_s * count / few > LONGEST_LOOP_S:
        return slice_s * count / few, f" (extrapolated from {few} anchors)"
    return cpu_seconds(lambda: sort_loop(coords, np.arange(count), rng)), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    tables = ("train", "infer", "stitch", "group")
    parser.add_argument("--tables", nargs="+", default=tables, choices=tables)
    parser.add_argument("--quick", action="store_true", help="see that it works: N = 64, few repetitions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # a module that is stepped by hand has no trainer to log to
    warnings.filterwarnings("ignore", message=".*self.log.*")
    logging.getLogger("ptychopinn_ptychodus").setLevel(logging.ERROR)

    quick = arguments.quick
    sizes = (64,) if quick else (64, 128)
    model = ("architecture", "N", "gridsize", "n_filters_scale")
    print_header(("ptychopinn-ptychodus", "torch", "numpy", "scipy"))
    if "train" in arguments.tables:
        print_table(
            "Training",
            (*model, "M weights", "s per step", "patterns/s", "bare network", "PtychoPINN patterns/s"),
            training(sizes, 0.5 if quick else 5.0),
            f"CPU seconds. A step is {BATCH} patterns ({BATCH}/C groups): loading, `training_step`, "
            "backward, Adam. Bare network: its forward and backward alone, on the same inputs, as a share of "
            "the step (with noise, some rows exceed 100 %). "
            f"{PEER_NOTE}, {BATCH} groups a step.",
        )
    if "infer" in arguments.tables:
        columns = ("scan", "scan patterns/s", "network patterns/s", "assembly", "PtychoPINN patterns/s")
        print_table(
            "Inference with assembly",
            (*model, *columns),
            inference(sizes, {64: 64 if quick else 400, 128: 100}),
            "CPU seconds, `predict_patches` and `assemble` (one phase for all patches, stitching) together; "
            "every pattern is the anchor of a group, so with gridsize 2 the network sees each about four "
            f"times, and the scan's patterns are a quarter of the network's. {PEER_NOTE}, its network's "
            "patterns, without stitching.",
        )
    if "stitch" in arguments.tables:
        print_table(
            "Stitching 1,000 patches of 64 × 64",
            ("how", "CPU s", "faster than the loop", "amplitude SSIM", "phase SSIM"),
            stitching(1000, 1 if quick else 5),
            "True patches of a known object, both ways weighted by the probe's intensity.",
        )
    if "group" in arguments.tables:
        print_table(
            "Grouping, C = 4",
            ("positions", "how", "CPU s", "takes"),
            grouping((1500,) if quick else (1500, 20_000), 2 if quick else 5),
            "Every position an anchor, three of its four nearest neighbours drawn at random.",
        )


if __name__ == "__main__":
    main()
