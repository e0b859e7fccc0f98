"""The nanoprobe scan, with corrected and with recorded positions: refinement beside pty-chi's LSQ-ML.

    python benchmarks/nanoprobe.py --data DATA [--peer PYTHON] [--images DIR]

Nobody knows the true object, and a residual does not tell a good one: so pictures are left of phase,
amplitude and the strongest mode of the probe, to be looked at. Positions are compared with the corrected
ones, up to what all have in common and up to an affine map. Three modes, positions refined, both from a flat
object; LSQ-ML through stock Ptychodus, its whole process counted. ``PYTHON`` has Ptychodus and pty-chi.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _scans import ROOT, Result, copy_scan, refined_from_flat, residual_of
from _stock_lsqml import lsqml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory
from ptychopinn_ptychodus.refinement import RefinementConfig

MODES, PEER_EPOCHS = 3, 60
PRODUCTS = {"corrected": "product.h5", "recorded": "product_recorded_positions.h5"}
COLUMNS = (
    "positions",
    "what",
    "CPU s",
    "residual",
    "positions off, px",
    "median",
    "without an affine map",
    "power of the modes, %",
)


def rows(data: Path, python: str | None, images: Path, scratch: Path) -> Iterator[list[Any]]:
    """One for each set of positions and method; the pictures are left when all are made."""
    shown: dict[str, Result] = {}
    for name, product in PRODUCTS.items():
        copy_scan(data / "nanoprobe", scratch / name, product=product)
        raw = read_standard_directory(scratch / name)
        if name == "corrected":
            right = np.stack((raw.ycoords, raw.xcoords), -1)
        config = RefinementConfig(probe_modes=MODES)
        begin = time.process_time()
        result = refined_from_flat(raw, raw.probeGuess, config)[0]
        found = {f"refinement, {config.epochs} epochs": (result, time.process_time() - begin)}
        if python:
            peer = lsqml(data / "nanoprobe", python, PEER_EPOCHS, MODES, scratch, product=product)
            found[f"LSQ-ML, {PEER_EPOCHS} epochs"] = peer
        for what, (result, seconds) in found.items():
            shown[f"{name}: {what}"] = result
            yield [name, what, f"{seconds:.0f}", *measured(raw, result, right)]
    draw(shown, images / "nanoprobe.png")


def measured(raw: RawData, result: Result, right: NDArray[np.float64]) -> list[str]:
    """Residual, how far positions are off, and powers."""
    off = result.positions - right
    off -= off.mean(0)
    terms = np.column_stack((np.ones(len(off)), right))
    rest = off - terms @ np.linalg.lstsq(terms, off, rcond=None)[0]
    power = (np.abs(result.probe) ** 2).sum((1, 2))
    return [
        f"{residual_of(raw, result):.4f}",
        f"{np.sqrt((off**2).sum(1).mean()):.2f}",
        f"{np.median(np.hypot(*off.T)):.2f}",
        f"{np.sqrt((rest**2).sum(1).mean()):.2f}",
        " : ".join(f"{100 * part:.0f}" for part in power / power.sum()),
    ]


def draw(shown: dict[str, Result], path: Path) -> None:
    """Phase and amplitude where there was light, each on its own scale, and the probe's strongest mode."""
    figure = Figure(figsize=(5 * len(shown), 14), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(shown), squeeze=False)
    for column, (title, result) in enumerate(shown.items()):
        lit = result.lit()
        inside = np.ix_(lit.any(axis=1), lit.any(axis=0))
        # the phase as a whole is arbitrary
        turned = result.object * np.exp(-1j * np.angle(result.object[lit].mean()))
        for row, image in enumerate((np.angle(turned), np.abs(turned))):
            low, high = np.percentile(image[lit], (0.5, 99.5))
            axes[row, column].imshow(image[inside], cmap="gray", vmin=low, vmax=high)
        axes[2, column].imshow(np.abs(result.probe[0]), cmap="magma")
        axes[0, column].set_title(title)
        for axis in axes[:, column]:
            axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="directory that holds the scans")
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "img")
    options = parser.parse_args()
    print_header(["numpy", "scipy"])
    with tempfile.TemporaryDirectory() as scratch:
        found = rows(options.data, options.peer, options.images, Path(scratch))
        print_table("Nanoprobe, from a flat object", COLUMNS, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
