"""Image quality of the network alone, through the stock Ptychodus command line.

    python benchmarks/quality.py --data ../shared/data [--scans synthetic siemens_star]
        [--backends pytorch tensorflow] [--images docs/img]

Each scan is copied to a scratch directory and goes through ``ptychodus -b train`` and ``ptychodus -b
reconstruct`` with ``examples/<scan>.ini`` and each engine as ``Backend``; nothing else touches it. The object
is scored, where the reference shows light, with this package's metrics and, if it lies beside the data, with
``tools/evaluate.py``. Prints one table row a scan and engine; writes reconstruction and reference side by
side.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _tables import print_table
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from ptychodus.api.io import load_product

from ptychopinn_ptychodus.data import metrics

ROOT = Path(__file__).resolve().parents[1]
REFERENCES = {"synthetic": "truth.npz", "siemens_star": "reference.npz"}
COLUMNS = (
    "scan",
    "engine",
    "train wall s",
    "train CPU s",
    "infer wall s",
    "corr",
    "amp SSIM",
    "phase SSIM",
    "exit",
)


def timed(command: list[str]) -> tuple[int, float, float]:
    """Exit code, wall seconds and CPU seconds (children included) of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    code = subprocess.run(command, check=False).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return code, time.monotonic() - start, cpu


def on_grid_of(truth: Any, positions: Any, product: Any) -> Any:
    """The product's object moved by whole pixels to where the reference's positions have it; 1 outside."""
    geometry = product.object_.get_geometry()
    own = np.stack(
        [
            geometry.map_probe_positions_to_object_y_px(product.probe_positions),
            geometry.map_probe_positions_to_object_x_px(product.probe_positions),
        ],
        axis=-1,
    )
    first = np.rint(np.median(positions - own, axis=0)).astype(int)
    image = product.object_.get_layer(0)
    canvas = np.ones(truth.shape, image.dtype)
    start, stop = np.maximum(first, 0), np.minimum(first + image.shape, truth.shape)
    canvas[start[0] : stop[0], start[1] : stop[1]] = image[
        start[0] - first[0] : stop[0] - first[0], start[1] - first[1] : stop[1] - first[1]
    ]
    return canvas


def side_by_side(aligned: Any, truth: Any, mask: Any, path: Path, title: str) -> None:
    """Amplitude and phase of reconstruction and reference on the same grey scales."""
    rows, columns = np.where(mask)
    crop = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    figure = Figure(figsize=(10, 10), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    for row, (part, label) in enumerate(((np.abs, "amplitude"), (np.angle, "phase [rad]"))):
        low, high = np.percentile(part(truth)[mask], (0.5, 99.5))
        for column, (image, name) in enumerate(((aligned, "reconstruction"), (truth, "reference"))):
            shown = axes[row][column].imshow(part(image)[crop], cmap="gray", vmin=low, vmax=high)
            axes[row][column].set_title(f"{name}: {label}")
            axes[row][column].set_axis_off()
        figure.colorbar(shown, ax=axes[row], shrink=0.8)
    figure.suptitle(title)
    figure.savefig(path, dpi=90)


def run(name: str, backend: str, data: Path, images: Path, work: Path) -> list[str]:
    """One scan through the stock command line with one engine; the cells of its table row."""
    scan, output = work / backend / name, work / backend / f"{name}_out"
    scan.mkdir(parents=True)
    # not its settings.ini: Ptychodus reads that after, and over, the file given with -s
    for file in ("diffraction.h5", "product.h5"):
        shutil.copy(data / name / file, scan)
    section = "[PtychoPINNPluginModel]\n"
    example = (ROOT / "examples" / f"{name}.ini").read_text()
    assert section in example
    settings = work / backend / f"{name}.ini"
    settings.write_text(example.replace(section, f"{section}Backend = {backend}\n"))
    ptychodus = [str(Path(sys.executable).with_name("ptychodus")), "-s", str(settings), "-i", str(scan)]
    trained, train_wall, train_cpu = timed([*ptychodus, "-b", "train", "-o", str(scan)])
    applied, infer_wall, _ = timed([*ptychodus, "-b", "reconstruct", "-o", str(output)])
    if trained or applied:
        return [name, backend, *["-"] * 6, f"{trained}/{applied}"]

    product = output / "product.000100.h5"
    with np.load(data / name / REFERENCES[name]) as file:
        truth, probe, positions = file["object"], file["probe"], file["positions_rc_px"]
    reconstruction = on_grid_of(truth, positions, load_product(product))
    mask = metrics.illumination_mask(probe, positions[:, 1], positions[:, 0], truth.shape)
    scores = metrics.compare(reconstruction, truth, mask)
    aligned, _ = metrics.align(reconstruction, truth, mask)
    correlation = scores.complex_correlation_centred
    images.mkdir(parents=True, exist_ok=True)
    image = f"{name}_{backend}"
    title = f"{name}, {backend}: centred correlation {correlation:.3f}"
    side_by_side(aligned, truth, mask, images / f"{image}.png", title)
    shutil.copy(scan / "training_history.png", images / f"{image}_training.png")
    referee(data / ".." / "tools" / "evaluate.py", product, truth, probe, positions)
    values = (correlation, scores.amplitude.ssim, scores.phase.ssim)
    return [
        name,
        backend,
        *(f"{v:.0f}" for v in (train_wall, train_cpu, infer_wall)),
        *(f"{v:.3f}" for v in values),
        f"{trained}/{applied}",
    ]


def referee(script: Path, product: Path, truth: Any, probe: Any, positions: Any) -> None:
    """Print what an independent scoring script, if there is one, makes of the same product."""
    spec = importlib.util.spec_from_file_location("evaluate", script)
    if spec is None or spec.loader is None or not script.exists():
        return
    evaluate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluate)
    mask = evaluate.illumination_mask(positions, probe, truth.shape, 0.3)
    scores = evaluate.compare(evaluate.load(product)["object"], truth, mask)
    print(
        f"evaluate.py: centred correlation {scores['complex_correlation_centred']:.4f}, "
        f"amplitude SSIM {scores['amplitude']['ssim']:.4f}, phase SSIM {scores['phase']['ssim']:.4f}, "
        f"shift {np.round(scores['alignment']['shift_px'], 2).tolist()} px"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scans", nargs="+", default=list(REFERENCES), choices=list(REFERENCES))
    parser.add_argument("--backends", nargs="+", default=["pytorch", "tensorflow"])
    parser.add_argument("--data", type=Path, required=True, help="directory that holds the scans")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "img")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = [
            run(name, backend, arguments.data, arguments.images, Path(work))
            for name, backend in itertools.product(arguments.scans, arguments.backends)
        ]
    print_table("Network only, through the stock command line", COLUMNS, rows)
    return int(any(row[-1] != "0/0" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
