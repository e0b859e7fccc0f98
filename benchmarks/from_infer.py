"""From Infer to the refined object of a large scan, by the clock, beside pty-chi's LSQ-ML on the same scan.

    python benchmarks/from_infer.py [--edge 139] [--cores 2 1] [--peer PYTHON] [--peer-epochs 60 ...]
                                    [--images DIR]

A simulated raster of edge × edge patterns of 64 × 64 goes through stock ``ptychodus -b reconstruct``: by
``PINN`` with a network that was trained on 1,024 of its patterns, by ``Refinement``, and by LSQ-ML from a
flat object in the Python that ``--peer`` names. Seconds are what Ptychodus tells as the time of the
reconstruction: from what the button does to the product, without the files. Each run is confined to as many
cores as ``--cores`` says, and is left to use as many threads as it likes.

An epoch of LSQ-ML takes as long as any other. With several ``--peer-epochs``, as in ``--peer-epochs 2 6``,
the time of sixty is taken from the line through them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _peer import STAND_IN
from _scans import REFERENCES, Result, Scan, cpu, side_by_side
from _stock_lsqml import PROGRAM, SETTINGS
from _tables import print_header, print_table

from ptychopinn_ptychodus import default_training_config, train
from ptychopinn_ptychodus.config import ModelConfig
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.ptychodus_io.standard_scan import in_ptychodus, write_standard_directory

SIZE, STEP_PX, PHOTONS = 64, 6.0, 1e5
LEARNT_FROM = 1024
PEER_EPOCHS = 60
TOLD = re.compile(r"Reconstruction time ([\d.]+) seconds")
OURS = {
    "PINN, refined": "[Processing]\nAlgorithm = ptychopinn-plugin_pinn\n"
    "[PtychoPINNPluginModel]\nBackend = pytorch\n",
    "Refinement": "[Processing]\nAlgorithm = ptychopinn-plugin_refinement\n",
}
STOCK = "import sys\nfrom ptychodus.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


def make(directory: Path, edge: int) -> None:
    """The scan as a standard directory with its truth, and beside its files a trained network."""
    x, y = raster_positions(edge, edge, STEP_PX, jitter=0.3, origin=40.0, seed=21)
    shape = (int(y.max()) + 41, int(x.max()) + 41)
    truth = make_object(shape, seed=22)
    raw = simulate_scan(truth, make_probe(SIZE), x, y, photons=PHOTONS, seed=23)
    data, product = in_ptychodus(raw, np.ones(shape, np.complex64), photons=PHOTONS, name="large")
    directory.mkdir(parents=True)
    write_standard_directory(directory, data, product)
    positions = np.stack((y, x), -1)
    np.savez(
        directory / REFERENCES["synthetic"], object=truth, probe=raw.probeGuess, positions_rc_px=positions
    )
    some = np.flatnonzero((x < x.min() + 31.7 * STEP_PX) & (y < y.min() + 31.7 * STEP_PX))[:LEARNT_FROM]
    part = RawData(
        xcoords=raw.xcoords[some],
        ycoords=raw.ycoords[some],
        diff3d=raw.diff3d[some],
        probeGuess=raw.probeGuess,
        domain="amplitude",
    )
    model = ModelConfig(architecture="unrolled", gridsize=2, n_filters_scale=1)
    config = default_training_config(part, model=model, nepochs=2, backend="pytorch")
    train(part, config, output_dir=directory)


@dataclass(frozen=True)
class Run:
    """Seconds that Ptychodus tells, by the clock, and CPU seconds of the whole command."""

    told: float
    cpu: float
    product: Path


def run(python: str, program: str, settings: str, source: Path, target: Path, cores: int) -> Run:
    """Stock Ptychodus without a window, confined to some cores."""
    target.mkdir(parents=True)
    (target / "settings.ini").write_text(settings)
    (target / "run.py").write_text(program)
    available = sorted(os.sched_getaffinity(0))[:cores]
    command = [
        python,
        "run.py",
        "-b",
        "reconstruct",
        "-s",
        "settings.ini",
        "-i",
        str(source),
        "-o",
        str(target),
    ]
    before = cpu()
    with (target / "log.txt").open("w") as log:
        confined = ["taskset", "-c", ",".join(map(str, available))]
        code = subprocess.run(
            [*confined, *command], cwd=target, stdout=log, stderr=log, check=False
        ).returncode
    said = (target / "log.txt").read_text()
    told = TOLD.findall(said)
    if code or not told:
        raise RuntimeError(f"{command} ended with {code}:\n{said[-3000:]}")
    return Run(float(told[-1]), cpu() - before, max(target.glob("product*.h5")))


def rows(options: argparse.Namespace, work: Path, shown: dict[str, Result]) -> Iterator[Sequence[str]]:
    """A row for each number of cores and way; objects are added to ``shown``."""
    scan = Scan(work / "scan")
    for cores in options.cores:
        peer_s: list[float] = []
        if options.peer:
            for epochs in options.peer_epochs:
                text = SETTINGS.format(epochs=epochs, positions=False)
                name = f"LSQ-ML, {epochs} epochs"
                done = run(
                    options.peer, STAND_IN + PROGRAM, text, scan.directory, work / f"{cores}_{name}", cores
                )
                peer_s.append(done.told)
                yield _row(cores, name, done, scan, shown, "")
        sixty = _sixty(options.peer_epochs, peer_s) if peer_s else float("nan")
        for name, text in OURS.items():
            done = run(sys.executable, STOCK, text, scan.directory, work / f"{cores}_{name}", cores)
            part = f"{done.told / sixty:.3f} of {sixty:.0f}" if peer_s else ""
            yield _row(cores, name, done, scan, shown, part)


def _row(
    cores: int, name: str, done: Run, scan: Scan, shown: dict[str, Result], part: str
) -> tuple[str, ...]:
    result = Result.load(done.product)
    shown.setdefault(name, result)
    scores = scan.scores(result)
    quality = (f"{scores[key]:.4f}" for key in ("corr", "amplitude", "phase", "residual"))
    return (str(cores), name, f"{done.told:.1f}", f"{done.cpu:.0f}", part, *quality)


def _sixty(epochs: Sequence[int], seconds: Sequence[float]) -> float:
    """Seconds of :data:`PEER_EPOCHS` epochs, by the line through what was measured."""
    if len(epochs) == 1:
        return seconds[0] * PEER_EPOCHS / epochs[0]
    return float(np.polyval(np.polyfit(epochs, seconds, 1), PEER_EPOCHS))


def main() -> None:
    """Make the scan, reconstruct it in all ways, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edge", type=int, default=139)
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with Ptychodus and pty-chi")
    parser.add_argument("--peer-epochs", type=int, nargs="+", default=[PEER_EPOCHS])
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    print_header(["ptychodus", "torch", "numpy"], "Threads as each program likes,")
    shown: dict[str, Result] = {}
    columns = (
        "cores",
        "way",
        "s",
        "CPU s",
        f"of LSQ-ML's {PEER_EPOCHS} epochs",
        "corr",
        "amp SSIM",
        "phase SSIM",
        "residual",
    )
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        make(work / "scan", options.edge)
        title = f"{options.edge**2:,} patterns of {SIZE} × {SIZE}"
        print_table(title, columns, rows(options, work, shown))
        if options.images:
            options.images.mkdir(parents=True, exist_ok=True)
            side_by_side(Scan(work / "scan"), shown, options.images / "from_infer.png", title)


if __name__ == "__main__":
    main()
