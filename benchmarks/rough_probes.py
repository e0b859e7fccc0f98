"""What a rough probe costs a pretrained network's first look, by what probes it has learnt from.

    ptychopinn-ptychodus pretrain -o RIGHT --modes 3
    ptychopinn-ptychodus pretrain -o ROUGH --modes 3 --probe-errors 0.75
    python benchmarks/rough_probes.py --models right=RIGHT/model.ckpt rough=ROUGH/model.ckpt --seeds 1 2 3 4

Of each seed two scans are made, 256 patterns of 64 × 64 and 1e6 photons: of a beam of three modes, and of a
coherent one. The networks are applied with the true probe and with probes that are wrong in one way or in
several, and nobody looks for a better one first. With ``--data DATA``, the measured scan ``siemens_star`` is
looked at in the same way, with the one-mode probe of its product; ``benchmarks/pretrained.py
--network-only`` applies the same models through stock Ptychodus.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _scans import Result, Scan, side_by_side
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pretrained import SHARES, applied, drawn_scan

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.probe import with_modes
from ptychopinn_ptychodus.pretraining.probes import out_of_focus, stretched

Probe = NDArray[np.complex64]

COHERENT: dict[str, Callable[[Probe], Probe]] = {
    "right": lambda p: p,
    "four times as bright": lambda p: 2 * p,
    "1 rad out of focus": lambda p: out_of_focus(p, 1.0),
    "2 rad out of focus": lambda p: out_of_focus(p, 2.0),
    "10 % too wide": lambda p: stretched(p, 1.1),
}
THREE_MODES: dict[str, Callable[[Probe], Probe]] = {
    "right": lambda p: p,
    "one mode of three": lambda p: p[:1],
    "1.5 rad out of focus": lambda p: out_of_focus(p, 1.5),
    "10 % too wide": lambda p: stretched(p, 1.1),
    "one mode, 1.5 rad out of focus": lambda p: out_of_focus(p[:1], 1.5),
    "one mode, 1.5 rad, 10 % too narrow": lambda p: stretched(out_of_focus(p[:1], 1.5), 0.9),
}
SHOWN = ("right", "one mode of three", "one mode, 1.5 rad out of focus")

Scores = tuple[float, float, float]


def scores(object_: NDArray[Any], truth: NDArray[Any], mask: NDArray[np.bool_]) -> Scores:
    """Centred correlation, SSIM of the amplitude, SSIM of the phase."""
    found = metrics.compare(object_, truth, mask)
    return found.complex_correlation_centred, found.amplitude.ssim, found.phase.ssim


def drawn(
    seeds: list[int], beam: str, models: Mapping[str, Path], images: Path | None
) -> dict[str, dict[str, list[Scores]]]:
    """Scores by the name of the probe and of the model, one of each seed."""
    shares, kinds = (SHARES, THREE_MODES) if beam == "three modes" else ((1.0,), COHERENT)
    found: dict[str, dict[str, list[Scores]]] = {kind: {name: [] for name in models} for kind in kinds}
    for seed in seeds:
        scan, truth, true = drawn_scan(seed, shares)
        mask = metrics.illumination_mask(true, scan.xcoords, scan.ycoords, truth.shape)
        pictures: dict[str, NDArray[Any]] = {"truth": truth}
        for kind, wrong in kinds.items():
            scan.probeGuess = wrong(true)
            for name, model in models.items():
                object_ = applied(model, scan, truth.shape)[0]
                found[kind][name].append(scores(object_, truth, mask))
                if kind in SHOWN:
                    pictures[f"{name}, {kind}"] = metrics.align(object_, truth, mask)[0]
        if images is not None and beam == "three modes":
            images.mkdir(parents=True, exist_ok=True)
            draw(pictures, mask, images / f"rough_probes_{seed}.png")
    return found


def draw(pictures: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_], path: Path) -> None:
    """Amplitudes above, phases below, on the truth's grey scales."""
    rows, columns = np.where(mask)
    crop = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    figure = Figure(figsize=(3.2 * len(pictures), 6.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pictures))
    parts: list[tuple[Callable[[Any], Any], str]] = [(np.abs, "amplitude"), (np.angle, "phase")]
    for row, (part, label) in enumerate(parts):
        low, high = np.percentile(part(pictures["truth"])[mask], (0.5, 99.5))
        for axis, (name, picture) in zip(axes[row], pictures.items(), strict=True):
            axis.imshow(part(picture)[crop], cmap="gray", vmin=low, vmax=high)
            axis.set_title(f"{name}\n{label}", fontsize=8)
            axis.set_axis_off()
    figure.savefig(path, dpi=70)


def tables(beam: str, found: Mapping[str, Mapping[str, list[Scores]]], models: Mapping[str, Path]) -> None:
    """One row for each probe: for each model the mean correlation, the least, and the mean SSIM of both."""
    columns = ["probe shown", *(f"{name}: corr (least), amp SSIM, phase SSIM" for name in models)]
    rows = []
    for kind, by_model in found.items():
        row = [kind]
        for each in by_model.values():
            corr, amplitude, phase = np.mean(each, 0)
            row.append(f"{corr:.3f} ({min(s[0] for s in each):.3f}), {amplitude:.3f}, {phase:.3f}")
        rows.append(row)
    count = len(next(iter(next(iter(found.values())).values())))
    print_table(f"{count} drawn scans, {beam}", columns, rows)


def star(data: Path, models: Mapping[str, Path], images: Path | None) -> None:
    """The measured star, with the one mode of its product, and with two more that are made up."""
    scan = Scan(data / "siemens_star")
    raw = scan.raw
    assert raw.objectGuess is not None
    given, rows, pictures = raw.probeGuess, [], {"reference": scan.reference}
    for how, probe in (("product's", given), ("product's, two modes made up", with_modes(given, 3))):
        for name, model in models.items():
            raw.probeGuess = probe
            object_, used, spent = applied(model, raw, raw.objectGuess.shape)
            result = Result(object_, used, np.stack((raw.ycoords, raw.xcoords), -1))
            found = scan.scores(result)
            values = (f"{found[key]:.4f}" for key in ("corr", "amplitude", "phase"))
            rows.append([f"{name}, probe {how}", f"{spent:.1f}", *values])
            pictures[f"{name}, {how}"] = result
    print_table("siemens_star", ("what", "CPU s", "corr", "amp SSIM", "phase SSIM"), rows)
    if images is not None:
        side_by_side(scan, pictures, images / "siemens_star_rough_probe.png", "siemens_star")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=MODEL")
    parser.add_argument("--seeds", nargs="*", type=int, default=[], metavar="SEED")
    parser.add_argument("--data", type=Path, help="directory of the measured scans")
    parser.add_argument("--images", type=Path, help="directory for pictures")
    arguments = parser.parse_args()
    models = {name: Path(path) for name, _, path in (item.partition("=") for item in arguments.models)}
    print_header(["ptychopinn-ptychodus", "torch", "numpy", "scipy"])
    for beam in ("three modes", "coherent") if arguments.seeds else ():
        tables(beam, drawn(arguments.seeds, beam, models, arguments.images), models)
    if arguments.data is not None:
        star(arguments.data, models, arguments.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
