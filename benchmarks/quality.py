"""Image quality of the network alone, through the stock Ptychodus command line.

    python benchmarks/quality.py --data DATA [--scans synthetic siemens_star]
        [--backends pytorch tensorflow] [--images docs/img]

Each scan is copied to a scratch directory and goes through ``ptychodus -b train`` and ``ptychodus -b
reconstruct`` with ``examples/<scan>.ini``, each engine as ``Backend`` and no refinement; nothing else touches
it. The object is scored, where the reference shows light, with this package's metrics and, if it lies beside
the data, with ``tools/evaluate.py``. Prints one table row a scan and engine; writes reconstruction and
reference side by side.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _scans import REFERENCES, ROOT, Result, Scan, copy_scan, cpu, side_by_side, write_settings
from _tables import print_table

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
    before, start = cpu(), time.monotonic()
    code = subprocess.run(command, check=False).returncode
    return code, time.monotonic() - start, cpu() - before


def run(name: str, backend: str, data: Path, images: Path, work: Path) -> list[str]:
    """One scan through the stock command line with one engine; the cells of its table row."""
    source, output = work / backend / name, work / backend / f"{name}_out"
    copy_scan(data / name, source)
    settings = work / backend / f"{name}.ini"
    changes: dict[str, dict[str, Any]] = {
        "PtychoPINNPluginModel": {"Backend": backend},
        "PtychoPINNPluginRefinement": {"Epochs": 0},
    }
    write_settings(name, settings, changes)
    ptychodus = [str(Path(sys.executable).with_name("ptychodus")), "-s", str(settings), "-i", str(source)]
    trained, train_wall, train_cpu = timed([*ptychodus, "-b", "train", "-o", str(source)])
    applied, infer_wall, _ = timed([*ptychodus, "-b", "reconstruct", "-o", str(output)])
    if trained or applied:
        return [name, backend, *["-"] * 6, f"{trained}/{applied}"]

    (product,) = output.glob("product*.h5")  # one only: the network's
    scan, result = Scan(data / name), Result.load(product)
    scores = scan.scores(result)
    images.mkdir(parents=True, exist_ok=True)
    image = f"{name}_{backend}"
    title = f"{name}, {backend}: centred correlation {scores['corr']:.3f}"
    shown = {"reconstruction": result, "reference": scan.reference}
    side_by_side(scan, shown, images / f"{image}.png", title)
    shutil.copy(source / "training_history.png", images / f"{image}_training.png")
    other = scan.script_scores(result)
    if other:
        print("evaluate.py: " + ", ".join(f"{key} {value:.4f}" for key, value in other.items()))
    return [
        name,
        backend,
        *(f"{v:.0f}" for v in (train_wall, train_cpu, infer_wall)),
        *(f"{scores[key]:.3f}" for key in ("corr", "amplitude", "phase")),
        f"{trained}/{applied}",
    ]


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
