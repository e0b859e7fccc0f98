"""Refinement after inference: quality and CPU time by epochs, from a flat object and from others.

    python benchmarks/refinement.py --data DATA [--scans synthetic siemens_star] [--epochs 5 10 20]
        [--start synthetic=PRODUCT.h5 siemens_star=PRODUCT.h5] [--peer PYTHON]

``--start`` names products whose object and probe to start from, such as those that a network left. ``--peer``
is a Python with ptychodus and pty-chi: its LSQ-ML runs through stock Ptychodus on the same scans. pty-chi
imports torchvision for a blur that LSQ-ML does not use; where it is missing, a stand-in that raises when it
is called takes its place.

Each run is a process of its own. Scores are this package's metrics, where the reference shows light.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _tables import in_fresh_process, peak_mb, print_header, print_table, use_one_thread

use_one_thread()

REFERENCES = {"synthetic": "truth.npz", "siemens_star": "reference.npz"}
MODES = {"synthetic": 1, "siemens_star": 3}
PEER_EPOCHS = {"synthetic": 60, "siemens_star": 45}
COLUMNS = (
    "start",
    "epochs",
    "CPU s",
    "with imports",
    "peak MB",
    "corr",
    "amp SSIM",
    "phase SSIM",
    "residual",
)
PEER_SETTINGS = """
[Processing]
Algorithm = pty-chi_LSQML
[PtyChi]
NumEpochs = {epochs}
NumSyncEpochs = {epochs}
BatchSize = 32
UseDevices = False
[PtyChiProbePosition]
IsOptimizable = {positions}
"""
PEER_PROGRAM = """
import importlib.util, sys, types
if importlib.util.find_spec("torchvision") is None:
    class GaussianBlur:
        def __init__(self, *args, **kwargs):
            raise RuntimeError("this stand-in for torchvision does not blur")
    transforms = types.ModuleType("torchvision.transforms")
    transforms.GaussianBlur = GaussianBlur
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.modules["torchvision.transforms"] = transforms
from ptychodus.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""


def cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


# ---------------------------------------------------------------------- in a process of its own


def refine_once(job: dict[str, Any]) -> dict[str, Any]:
    """Read a scan, refine, and say what it took; the result stays in ``job["out"]``."""
    import numpy as np
    from ptychodus.api.io import load_product

    from ptychopinn_ptychodus.plugin.ingest import read_standard_directory
    from ptychopinn_ptychodus.refinement import RefinementConfig, refine

    raw = read_standard_directory(Path(job["scan"]))
    if job["half"] is not None:
        raw = raw.select(slice(job["half"], None, 2))
    object_, probe = raw.objectGuess, raw.probeGuess
    if job["start"]:
        product = load_product(Path(job["start"]))
        object_, probe = product.object_.get_layer(0), product.probes.get_array()[0]
    config = RefinementConfig(epochs=job["epochs"], probe_modes=max(job["modes"], len(probe)))
    begin = time.process_time()
    result = refine(raw, object_, probe, config, device="cpu")
    spent, process = time.process_time() - begin, cpu(resource.RUSAGE_SELF)
    np.savez(job["out"], object=result.object, probe=result.probe, positions=result.positions)
    return {"cpu": spent, "process": process, "peak": peak_mb()}


def score(job: dict[str, Any]) -> dict[str, Any]:
    """Scores of what lies in ``job["out"]``, a product or the file of :func:`refine_once`."""
    import numpy as np
    from ptychodus.api.io import load_product

    from ptychopinn_ptychodus.data import metrics
    from ptychopinn_ptychodus.data.raw import RawData
    from ptychopinn_ptychodus.plugin.ingest import object_positions, read_standard_directory

    def load(path: str) -> tuple[Any, Any, Any]:
        if path.endswith(".npz"):
            with np.load(path) as file:
                return file["object"], file["probe"], file["positions"]
        product = load_product(Path(path))
        positions = np.stack(object_positions(product), -1)
        return product.object_.get_layer(0), product.probes.get_array()[0], positions

    object_, probe, positions = load(job["out"])
    raw = read_standard_directory(Path(job["scan"]))
    if job.get("other"):
        illuminated = metrics.illumination_mask(probe, *positions.T, object_.shape)
        rings = metrics.fourier_ring_correlation(object_, load(job["other"])[0], illuminated)
        return {"half_period": rings.half_period()}
    moved = RawData(
        xcoords=positions[:, 0],
        ycoords=positions[:, 1],
        diff3d=raw.diff3d,
        probeGuess=probe,
        domain="amplitude",
    )
    found: dict[str, Any] = {"residual": metrics.normalised_amplitude_residual(moved, object_, probe)}
    with np.load(job["reference"]) as file:
        truth, lit, where = file["object"], file["probe"], file["positions_rc_px"]
    # grids differ; whole pixels bring both together, the score aligns the rest
    first = np.rint(np.median(where[:, ::-1] - positions, axis=0)).astype(int)[::-1]
    placed = np.ones(truth.shape, complex)
    start, stop = np.maximum(first, 0), np.minimum(first + object_.shape, truth.shape)
    (top, left), (bottom, right) = start - first, stop - first
    placed[start[0] : stop[0], start[1] : stop[1]] = object_[top:bottom, left:right]
    illuminated = metrics.illumination_mask(lit, where[:, 1], where[:, 0], truth.shape)
    result = metrics.compare(placed, truth, illuminated)
    found["corr"] = result.complex_correlation_centred
    found["amplitude"], found["phase"] = result.amplitude.ssim, result.phase.ssim
    return found


# ---------------------------------------------------------------------- tables


def ask(what: str, **job: Any) -> dict[str, Any]:
    return in_fresh_process([__file__, f"--{what}", json.dumps(job)])


def cells(scores: dict[str, Any]) -> list[str]:
    return [f"{scores[key]:.4f}" for key in ("corr", "amplitude", "phase")] + [f"{scores['residual']:.5f}"]


def rows(
    scan: Path, starts: dict[str, str], epochs: list[int], peer: str | None, scratch: Path
) -> Iterator[list[Any]]:
    reference, modes = str(scan / REFERENCES[scan.name]), MODES[scan.name]
    out = str(scratch / "refined.npz")
    for name, start in {"flat": "", **starts}.items():
        for count in epochs:
            spent = ask("refine", scan=str(scan), start=start, epochs=count, modes=modes, half=None, out=out)
            scores = ask("score", scan=str(scan), out=out, reference=reference)
            took = [f"{spent['cpu']:.2f}", f"{spent['process']:.1f}", f"{spent['peak']:.0f}"]
            yield [name, count, *took, *cells(scores)]
    if peer:
        product, seconds = run_peer(scan, peer, scratch)
        scores = ask("score", scan=str(scan), out=str(product), reference=reference)
        yield ["pty-chi LSQ-ML, flat", PEER_EPOCHS[scan.name], "", f"{seconds:.1f}", "", *cells(scores)]


def run_peer(scan: Path, python: str, scratch: Path) -> tuple[Path, float]:
    """The product that pty-chi made of a scan, and the CPU seconds of its whole process tree."""
    import h5py

    from ptychopinn_ptychodus.data.probe import with_modes

    source, target = scratch / "peer_in", scratch / "peer_out"
    source.mkdir()
    for name in ("diffraction.h5", "product.h5"):
        shutil.copyfile(scan / name, source / name)
    modes = MODES[scan.name]
    with h5py.File(source / "product.h5", "r+") as file:
        probe = file["probe"][()]
        attributes = dict(file["probe"].attrs)
        if modes > 1:
            del file["probe"]
            file["probe"] = with_modes(probe.reshape(-1, *probe.shape[-2:]), modes)[None]
            file["probe"].attrs.update(attributes)
    settings = PEER_SETTINGS.format(epochs=PEER_EPOCHS[scan.name], positions=modes > 1)
    (source / "settings.ini").write_text(settings.lstrip())
    program = scratch / "peer.py"
    program.write_text(PEER_PROGRAM)
    before = cpu(resource.RUSAGE_CHILDREN)
    command = [python, str(program), "-b", "reconstruct", "-i", str(source), "-o", str(target)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    seconds = cpu(resource.RUSAGE_CHILDREN) - before
    product = next(target.glob("product*.h5"), None) if target.is_dir() else None
    if run.returncode or product is None:
        raise RuntimeError(f"pty-chi ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return product, seconds


def rings(scan: Path, epochs: list[int], scratch: Path) -> Iterator[list[Any]]:
    """Odd against even patterns, refined apart from a flat object."""
    halves = [str(scratch / f"half{half}.npz") for half in (0, 1)]
    for count in epochs:
        seconds = 0.0
        for half, out in enumerate(halves):
            spent = ask(
                "refine", scan=str(scan), start="", epochs=count, modes=MODES[scan.name], half=half, out=out
            )
            seconds += spent["cpu"]
        half_period = ask("score", scan=str(scan), out=halves[0], other=halves[1])["half_period"]
        yield [count, f"{seconds:.1f}", "below 1 px" if half_period is None else f"{half_period:.2f} px"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="directory of the scans")
    parser.add_argument("--scans", nargs="+", choices=list(REFERENCES), default=list(REFERENCES))
    parser.add_argument("--epochs", nargs="+", type=int, default=[5, 10, 20])
    parser.add_argument("--start", nargs="+", default=[], metavar="SCAN=PRODUCT.h5")
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--refine", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--score", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.refine or arguments.score:
        done = refine_once(arguments.refine) if arguments.refine else score(arguments.score)
        print(json.dumps(done))
        return 0
    if arguments.data is None:
        parser.error("--data is needed")
    starts = dict(item.split("=", 1) for item in arguments.start)
    print_header(["numpy", "scipy"])
    for name in arguments.scans:
        scan = arguments.data / name
        given = {"product": starts[name]} if name in starts else {}
        with tempfile.TemporaryDirectory() as scratch:
            print_table(
                f"{name}, {MODES[name]} probe modes, probe and positions refined",
                COLUMNS,
                rows(scan, given, arguments.epochs, arguments.peer, Path(scratch)),
            )
            print_table(
                f"{name}, odd against even patterns from a flat object",
                ("epochs", "CPU s, both", "half period at the half-bit threshold"),
                rings(scan, arguments.epochs, Path(scratch)),
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
