"""What a prior brings to dim scans, by dose: refinement from a flat object without and with it.

    python benchmarks/dim.py --reference DATA/synthetic/truth.npz [--networks] [--peer PYTHON] [--images DIR]
    python benchmarks/dim.py --kinds usual "fine texture" --seed 802 [--images DIR]

The first has the object, the probe and the positions of a file, with new noise at each dose; the second
scans of the collection (``benchmarks/zoo``). Each is refined by the defaults, once with the prior off and
once with ``"auto"``. ``--networks`` adds a network that learns from that scan alone, and what a
reconstruction makes of its object, the prior off; ``--peer``, with a Python that has pty-chi, adds LSQ-ML
from a flat object.
``--unasked`` adds the prior whether patterns that were held out agree or not. ``--images`` draws all objects.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from zoo.kinds import KINDS
from zoo.make import MadeScan, make

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.simulation import simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig, denoising
from ptychopinn_ptychodus.refinement.chosen_start import Start, better_start
from ptychopinn_ptychodus.refinement.solver import refine

DOSES = (1e2, 1e3, 1e4, 1e5, 1e6)
OFF, AUTO = "without", "with the prior"
COLUMNS = ("scan", "photons", "what", "corr", "amp SSIM", "phase SSIM", "prior taken", "CPU s")

Object = NDArray[np.complexfloating]


def of_file(reference: Path, photons: float, seed: int) -> MadeScan:
    """The scan of a file with new noise."""
    with np.load(reference) as file:
        truth, probe, positions = file["object"], file["probe"], file["positions_rc_px"]
    y, x = positions.T
    scan = simulate_scan(truth, probe, x, y, photons, seed)
    scan.objectGuess = np.ones(truth.shape, np.complex64)  # nothing is to be learnt from it
    return MadeScan(scan, truth, scan.probeGuess, np.stack((x, y), -1))


def refined(scan: MadeScan, prior: str, start: Object, probe: Object) -> tuple[Object, bool, float]:
    """Object, whether the prior was taken, and CPU seconds."""
    begin = time.process_time()
    found = refine(scan.raw, start, probe, RefinementConfig(prior=prior), device="cpu", quiet=True)
    return found.object, found.denoised, time.process_time() - begin


def unasked(scan: MadeScan) -> tuple[Object, bool, float]:
    """As :func:`refined` from a flat object, the prior taken whatever patterns say that were held out."""
    asked, denoising.SURE = denoising.SURE, -math.inf
    try:
        return refined(scan, "auto", np.ones(scan.object.shape, np.complex64), scan.raw.probeGuess)
    finally:
        denoising.SURE = asked


def refined_network(scan: MadeScan, network: Object, probe: Object) -> tuple[Object, float]:
    """As a reconstruction refines a network's object, the prior off: the object, and CPU seconds."""
    begin = time.process_time()
    config = RefinementConfig(prior="off")
    given = Start(network.astype(np.complex64), probe)
    start = better_start(scan.raw, given, config, device="cpu", should_stop=lambda: False)
    found = refine(scan.raw, start.object, start.probe, config, device="cpu", quiet=True)
    return found.object, time.process_time() - begin


def results(scan: MadeScan, arguments: argparse.Namespace) -> Iterator[tuple[str, Object, str, float]]:
    """Name, object, whether a prior was taken, CPU seconds."""
    flat = np.ones(scan.object.shape, np.complex64)
    for name, prior in ((OFF, "off"), (AUTO, "auto")):
        found, taken, seconds = refined(scan, prior, flat, scan.raw.probeGuess)
        yield name, found, "yes" if taken else "", seconds
    if arguments.unasked:
        found, taken, seconds = unasked(scan)
        yield "with it, unasked", found, "yes" if taken else "", seconds
    if arguments.networks:
        from _network import apply, train
        from dose import UNROLLED

        config = replace(UNROLLED, nll_weight=1.0, mae_weight=0.0, n_groups=len(scan.raw))
        module, seconds = train(scan.raw, config)
        network = apply(module, scan.raw, config, scan.object.shape)
        yield "network alone", network, "", seconds
        found, seconds = refined_network(scan, network, module.counts_probe().detach().numpy())
        yield "network, refined", found, "", seconds
    if arguments.peer is not None:
        from zoo.lsqml import FROM_FLAT, lsqml

        theirs = lsqml(scan, arguments.peer, FROM_FLAT)
        yield "LSQ-ML", theirs.object, "", theirs.seconds


def draw(objects: dict[str, Object], truth: Object, mask: NDArray[np.bool_], path: Path) -> None:
    """Amplitude and phase of all objects, aligned, on the truth's grey scales."""
    rows, columns = np.where(mask)
    crop = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    images = {name: metrics.align(image, truth, mask)[0] for name, image in objects.items()}
    images["truth"] = np.asarray(truth, np.complex128)
    figure = Figure(figsize=(3.6 * len(images), 7.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(images))
    parts: list[Callable[[Any], Any]] = [np.abs, np.angle]
    for row, part in enumerate(parts):
        low, high = np.percentile(part(truth)[mask], (0.5, 99.5))
        low, high = (low, high) if high - low > 0.05 else (low - 0.2, high + 0.2)  # a flat one
        for axis, (name, image) in zip(axes[row], images.items(), strict=True):
            axis.imshow(part(image)[crop], cmap="gray", vmin=low, vmax=high)
            axis.set_title(name)
            axis.set_axis_off()
    figure.savefig(path, dpi=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", type=Path, help="object, probe, positions_rc_px")
    parser.add_argument("--kinds", nargs="+", default=(), choices=KINDS, help="scans of the collection")
    parser.add_argument("--seed", type=int, default=0, help="of the scans, or of the file's noise")
    parser.add_argument("--doses", nargs="+", type=float, default=DOSES, help="photons a pattern")
    parser.add_argument("--networks", action="store_true", help="a network for each scan, too; needs PyTorch")
    parser.add_argument("--unasked", action="store_true", help="the prior in any case, too")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with pty-chi")
    parser.add_argument("--images", type=Path, help="folder for pictures")
    arguments = parser.parse_args()
    if arguments.reference is None and not arguments.kinds:
        parser.error("give --reference, --kinds, or both")
    print_header(["numpy", "scipy", "scikit-image"])

    def rows() -> Iterator[list[str]]:
        names = [*([arguments.reference.parent.name] if arguments.reference else []), *arguments.kinds]
        for name in names:
            for photons in arguments.doses:
                if name in arguments.kinds:
                    scan = make(replace(KINDS[name], photons=photons), arguments.seed)
                else:
                    scan = of_file(arguments.reference, photons, arguments.seed)
                x, y = scan.positions.T
                mask = metrics.illumination_mask(scan.probe, x, y, scan.object.shape)
                objects: dict[str, Object] = {}
                for what, found, taken, seconds in results(scan, arguments):
                    objects[what] = found
                    score = metrics.compare(found, scan.object, mask)
                    values = (score.complex_correlation_centred, score.amplitude.ssim, score.phase.ssim)
                    dose = f"{photons:.0e}".replace("e+0", "e")
                    yield [name, dose, what, *(f"{value:.3f}" for value in values), taken, f"{seconds:.1f}"]
                if arguments.images:
                    arguments.images.mkdir(parents=True, exist_ok=True)
                    draw(
                        objects, scan.object, mask, arguments.images / f"{name}_{dose}.png".replace(" ", "_")
                    )

    print_table("By dose", COLUMNS, rows())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
