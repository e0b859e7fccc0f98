"""Pretrained models on scans that they have not seen, beside a flat start: for docs/benchmarks.md.

    ptychopinn-ptychodus pretrain -o PRETRAINED
    python benchmarks/pretrained.py --data DATA --models "made probes=PRETRAINED/model.ckpt"

The model goes through stock ``ptychodus -b reconstruct``, the settings are those of ``examples/`` but for
``ProbeTrainable``, which says whether the probe is tried, and found if need be, before the network is
applied. CPU seconds are of whole processes with their children; "from Infer" is the plugin's child process
alone. A model whose name begins with that of a scan is applied to that scan only. ``--drawn SEEDS`` adds
simulated scans, whose beam is partly coherent and whose product has its first mode alone, out of focus.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _scans import REFERENCES, ROOT, Result, Scan, side_by_side
from numpy.typing import NDArray
from refinement import flat, network

from ptychopinn_ptychodus.backends.registry import guess_engine
from ptychopinn_ptychodus.config import ExecutionConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.grouping import neighbourhood_order
from ptychopinn_ptychodus.data.probe import orthogonal_modes, probe_width, with_modes
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import raster_positions, simulate_scan
from ptychopinn_ptychodus.pretraining.objects import random_object
from ptychopinn_ptychodus.pretraining.probes import out_of_focus, random_probe
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.scan_probe import better_probe
from ptychopinn_ptychodus.refinement.solver import refine

EPOCHS = RefinementConfig().epochs
SHARES = (0.75, 0.17, 0.08)  # of the power, of the modes of drawn scans
FLAT_EPOCHS = (EPOCHS, 2 * EPOCHS, 3 * EPOCHS)
COLUMNS = ("what", "CPU s", "of which from Infer", "corr", "amp SSIM", "phase SSIM", "residual")


def compare(
    scan: Path, models: dict[str, Path], scratch: Path, images: Path | None, *, network_only: bool
) -> None:
    """Every model with and without refinement, and refinement without a model, on one scan."""
    passes = (
        {"network only": 0} if network_only else {"network only": 0, f"network, then {EPOCHS} epochs": EPOCHS}
    )
    flat_epochs = () if network_only else FLAT_EPOCHS
    measured: dict[str, tuple[Result, float, float | None]] = {}
    for name, model in models.items():
        for find_probe, how in ((False, "probe as given"), (True, "probe tried first")):
            for what, epochs in passes.items():
                run = network(scan, model, epochs, scratch, find_probe=find_probe)
                measured[f"{name}, {how}: {what}"] = run
    for epochs in flat_epochs:
        measured[f"flat start, {epochs} epochs"] = *flat(scan, epochs, scratch), None
    data = Scan(scan)
    rows = []
    for name, (result, seconds, child) in measured.items():
        scores = data.scores(result)
        row = [name, f"{seconds:.1f}", "" if child is None else f"{child:.1f}"]
        row += [f"{scores[key]:.4f}" for key in ("corr", "amplitude", "phase")]
        rows.append([*row, f"{scores['residual']:.5f}"])
    print_table(scan.name, COLUMNS, rows)
    if images:
        images.mkdir(parents=True, exist_ok=True)
        chosen = {name: measured[name][0] for name in measured if name.endswith("network only")}
        shown = {"reference": data.reference, **chosen}
        if not network_only:
            name = f"flat start, {EPOCHS} epochs"
            shown[name] = measured[name][0]
        side_by_side(data, shown, images / f"{scan.name}_pretrained.png", scan.name)


def with_the_right_probe(scan: Path, models: dict[str, Path]) -> None:
    """The same with probe and positions of the reference, in this process: what a wrong probe costs."""
    data = Scan(scan)
    truth = data.reference
    raw = RawData(
        xcoords=truth.positions[:, 1],
        ycoords=truth.positions[:, 0],
        diff3d=data.raw.diff3d,
        probeGuess=truth.probe,
        domain="amplitude",
        bad_pixels=data.raw.bad_pixels,
    )
    starts: dict[str, tuple[NDArray[Any], NDArray[Any], float]] = {}
    for name, model in models.items():
        starts[name] = applied(model, raw, truth.object.shape)
    starts["flat start"] = np.ones(truth.object.shape, np.complex64), truth.probe, 0.0
    rows = []
    for name, (object_, probe, seconds) in starts.items():
        for epochs in (0, EPOCHS):
            started = time.process_time()
            found = refine(raw, object_, probe, RefinementConfig(epochs=epochs), device="cpu")
            spent = seconds + time.process_time() - started
            scores = data.scores(Result(found.object, found.probe, found.positions[:, ::-1]))
            scored = [f"{scores[key]:.4f}" for key in ("corr", "amplitude", "phase")]
            rows.append([f"{name}, {epochs} epochs", f"{spent:.1f}", *scored, f"{scores['residual']:.5f}"])
    columns = ("what", "CPU s", "corr", "amp SSIM", "phase SSIM", "residual")
    print_table(f"{scan.name}, with probe and positions of the reference", columns, rows)


def applied(model: Path, raw: RawData, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Object, probe and CPU seconds of a model, as the plugin applies it where it refines."""
    started = time.process_time()
    engine = guess_engine(model)
    gridsize = engine.describe(model).model.gridsize
    data = raw.generate_grouped_data(raw.N, gridsize**2 + 2, None, gridsize=gridsize, seed=0)
    # as many members as there are patterns
    spread = np.sort(neighbourhood_order(data.coords)[gridsize**2 // 2 :: gridsize**2])
    data = data.subset(spread)
    found = engine.predict(model, data, ExecutionConfig(accelerator="cpu"))
    return found.stitch(data, shape).object, found.probe, time.process_time() - started


# ---------------------------------------------------------------------- drawn scans


def drawn_scan(
    seed: int, shares: Sequence[float] = SHARES
) -> tuple[RawData, NDArray[np.complex64], NDArray[np.complex64]]:
    """256 patterns under a made beam of such modes: the scan, its object, and the true probe."""
    rng = np.random.default_rng(seed)
    modes = orthogonal_modes(with_modes(random_probe(64, rng), len(shares)))
    factors = np.sqrt(np.array(shares) / (np.abs(modes) ** 2).sum((1, 2)))
    true = np.asarray(modes * factors[:, None, None], np.complex64)
    x, y = raster_positions(16, 16, 0.2 * probe_width(true), jitter=0.2, origin=36.0, seed=seed)
    edge = int(max(x.max(), y.max()) + 37)
    object_ = random_object((edge, edge), rng)
    return simulate_scan(object_, true, x, y, 1e6, seed), object_, true


def drawn(seed: int, models: dict[str, Path]) -> None:
    """Such a scan under the product's probe as it is, the found, and the true one."""
    scan, object_, true = drawn_scan(seed)
    x, y = scan.xcoords, scan.ycoords
    mask = metrics.illumination_mask(true, x, y, object_.shape)
    given = scan.select(slice(None))
    given.probeGuess = out_of_focus(true[:1], 1.5)
    started = time.process_time()
    found = better_probe(given, len(SHARES), device="cpu", should_stop=lambda: False)
    seconds = time.process_time() - started
    tried = given.probeGuess if found is None else found
    rows = []
    for name, model in models.items():
        for how, probe, before in (
            ("as given", given.probeGuess, 0),
            ("tried first", tried, seconds),
            ("true", true, 0),
        ):
            seen = scan.select(slice(None))
            seen.probeGuess = probe
            result, _, spent = applied(model, seen, object_.shape)
            scores = metrics.compare(result, object_, mask)
            row = [f"{name}, probe {how}", str(len(probe)), f"{spent + before:.1f}"]
            values = (scores.complex_correlation_centred, scores.amplitude.ssim, scores.phase.ssim)
            rows.append([*row, *(f"{value:.4f}" for value in values)])
    columns = ("network only", "modes", "CPU s", "corr", "amp SSIM", "phase SSIM")
    print_table(f"drawn with seed {seed}", columns, rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="directory of the scans")
    parser.add_argument(
        "--network-only", action="store_true", help="no refinement, no flat start, no reference"
    )
    parser.add_argument("--drawn", nargs="+", type=int, default=[], metavar="SEED")
    parser.add_argument("--scans", nargs="*", choices=list(REFERENCES), default=list(REFERENCES))
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=MODEL")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "img")
    arguments = parser.parse_args()
    models = {name: Path(path) for name, _, path in (item.partition("=") for item in arguments.models)}
    print_header(["ptychopinn-ptychodus", "ptychodus", "torch", "numpy", "scipy"])
    for name, model in models.items():
        state = guess_engine(model).read_state(model)
        about, history = state.description.model, state.description.history["train_loss"]
        weights = sum(array.size for key, array in state.arrays.items() if key.startswith("network."))
        shape = f"N = {about.N}, gridsize {about.gridsize}, {weights / 1e6:.2f} M weights"
        print(f"- {name}: {shape}, {len(history)} epochs")
    with tempfile.TemporaryDirectory() as directory:
        for scan in arguments.scans:
            fitting = {
                name: path
                for name, path in models.items()
                if name.partition(" ")[0] not in REFERENCES or name.startswith(scan)
            }
            network_only = arguments.network_only
            compare(
                arguments.data / scan, fitting, Path(directory), arguments.images, network_only=network_only
            )
            if not network_only:
                with_the_right_probe(arguments.data / scan, fitting)
    for seed in arguments.drawn:
        drawn(seed, {name: path for name, path in models.items() if name.partition(" ")[0] not in REFERENCES})
    return 0


if __name__ == "__main__":
    sys.exit(main())
