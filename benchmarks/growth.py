"""What grows with a scan, and how: time and memory of each stage, against the number of patterns.

    python benchmarks/growth.py [--patterns N ...] [--size N] [--stages NAME ...] [--epochs N]
                                [--backend NAME] [--learnt GROUPS] [--applied GROUPS]
                                [--directory DIR] [--images DIR]

Simulated scans are written to files of Ptychodus' training data a part at a time, and gone through as the
worker does it, each stage in a fresh process: reading and examining the file, grouping, a training of one
epoch, an inference with stitching, and a refinement, of one epoch unless ``--epochs`` says otherwise.
An epoch sees every pattern once, and in an inference every one is an anchor, unless ``--learnt`` and
``--applied`` say how many groups there are.
Exponents are of a fit of all sizes to a power of the number of patterns, of CPU seconds and of the peak of
memory. Scans are left in ``--directory``, where there is one, and not made again. ``--images`` gets the phase
of each object that was found, and of the one that was simulated.

The peak of memory is that of the process as a whole. What is mapped from files is part of it as long as it is
resident, although the system takes it back when it needs the room; memory without such pages is what the
process itself takes, looked at fifty times a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

SIZES = [1_000, 4_000, 16_000, 64_000, 100_000]
STAGES = ("reading", "grouping", "training", "inference", "refinement")
PHOTONS = 1e5
STEP = 0.11  # of N
PER_PATTERN = 1.0
"""Patterns that an epoch of the training sees, over those that there are."""
ALLOWED_MB, ALLOWED_PART = 1000.0, 0.2


# ---- the scans --------------------------------------------------------------------------------------------


def make_scan(path: Path, patterns: int, size: int) -> None:
    """Leave a simulated scan at ``path`` as training data of Ptychodus, made a part at a time."""
    import math

    import h5py
    import numpy as np

    from ptychopinn_ptychodus.data import simulation
    from ptychopinn_ptychodus.data.interpolation import PatchCutter

    side = math.ceil(math.sqrt(patterns))
    x, y = simulation.raster_positions(side, side, STEP * size, origin=0.75 * size)
    x, y = x[:patterns], y[:patterns]
    edge = math.ceil(max(x.max(), y.max()) + 0.75 * size)
    object_ = simulation.make_object((edge, edge), seed=1)
    probe = simulation.make_probe(size).astype(np.complex128)
    probe *= math.sqrt(PHOTONS / float((np.abs(probe) ** 2).sum()))
    cut, rng = PatchCutter(object_, size), np.random.default_rng(2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        chunks = (1, size, size)
        counts = file.create_dataset("patterns", (patterns, size, size), np.uint16, chunks=chunks)
        for start in range(0, patterns, 64):
            part = slice(start, start + 64)
            expected = simulation.diffraction_intensity(cut(x[part], y[part]), probe)
            counts[part] = np.minimum(rng.poisson(expected), 65534)
        file["bad_pixels"] = np.zeros((size, size), np.bool_)
        file["probe"] = probe[None].astype(np.complex64)
        file["probe_position_x_px"], file["probe_position_y_px"] = x, y
        file["object"] = object_


# ---- one stage, in a process of its own -------------------------------------------------------------------


@dataclass(frozen=True)
class Extent:
    """How much a stage does: epochs of a refinement, the engine, and groups of networks, None for all."""

    epochs: int = 1
    backend: str = "pytorch"
    learnt: int | None = None
    applied: int | None = None


def stage(name: str, scan: Path, directory: Path, extent: Extent) -> dict[str, Any]:
    """Do one stage; CPU seconds and seconds by the clock."""
    from ptychopinn_ptychodus.data.raw import RawData
    from ptychopinn_ptychodus.worker.job import DATA_DIRECTORY

    clock, cpu = time.monotonic(), time.process_time()
    if name == "make":
        make_scan(scan, int(directory.name.partition("_")[0]), int(directory.name.partition("_")[2]))
    elif name == "reading":
        RawData.from_file(scan).to_directory(directory / DATA_DIRECTORY)
    elif name == "grouping":
        raw = RawData.from_directory(directory / DATA_DIRECTORY)
        raw.generate_grouped_data(raw.N, 7, None, gridsize=2, seed=0)
    else:
        _run(name, scan, directory, extent)
    return {"seconds": time.monotonic() - clock, "cpu": time.process_time() - cpu}


def _run(name: str, scan: Path, directory: Path, extent: Extent) -> None:
    """One job of the worker, as :func:`~ptychopinn_ptychodus.worker.main.run_job` does it."""
    from ptychopinn_ptychodus.backends.registry import get_engine
    from ptychopinn_ptychodus.config import ExecutionConfig
    from ptychopinn_ptychodus.data.estimate import Estimate
    from ptychopinn_ptychodus.data.raw import RawData
    from ptychopinn_ptychodus.refinement import RefinementConfig
    from ptychopinn_ptychodus.worker.job import (
        DATA_DIRECTORY,
        START_DIRECTORY,
        Job,
        ReconstructJob,
        RefineJob,
        TrainJob,
    )
    from ptychopinn_ptychodus.worker.main import run_job
    from ptychopinn_ptychodus.worker.request import ReconstructionRequest, TrainingRequest

    execution = ExecutionConfig(accelerator="cpu", logger_backend="none")
    model = directory / f"model{get_engine(extent.backend).model_suffix}"
    raw = RawData.from_directory(directory / DATA_DIRECTORY)
    assert raw.objectGuess is not None
    shape = (raw.objectGuess.shape[0], raw.objectGuess.shape[1])
    job: Job
    if name == "training":
        asked = TrainingRequest(
            {"gridsize": 2, "architecture": "unrolled", "n_filters_scale": 1},
            {
                "train_data_file": scan.parent,
                "n_groups": extent.learnt or max(1, round(PER_PATTERN * len(raw) / 4)),
                "nepochs": 1,
                "neighbor_count": 7,
                "output_dir": directory,
                "backend": extent.backend,
                "subsample_seed": 0,
            },
        )
        job = TrainJob(asked, execution, model, validation_fraction=0.1, preview=True, log_level=30)
    elif name == "inference":
        asked_model = ReconstructionRequest(model, {"neighbor_count": 7, "n_groups": extent.applied})
        job = ReconstructJob(asked_model, execution, None, "pinn", shape, log_level=30)
    else:
        import numpy as np

        Estimate(np.ones(shape, np.complex64), raw.probeGuess).save(directory / START_DIRECTORY)
        job = RefineJob(RefinementConfig(epochs=extent.epochs), execution, log_level=30)
    del raw
    run_job(job, directory, lambda kind, **fields: None, lambda: False)


# ---- the parent -------------------------------------------------------------------------------------------


def measured(name: str, scan: Path, directory: Path, extent: Extent) -> dict[str, Any]:
    """What a stage took, with the peak of memory, MB, of its process, and of what is mapped from no file."""
    arguments = [
        sys.executable,
        "-W",
        "ignore",
        __file__,
        "--job",
        name,
        str(scan),
        str(directory),
        json.dumps(asdict(extent)),
    ]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as wrong:
        process = subprocess.Popen(arguments, stdout=said, stderr=wrong)
        peak = own = 0.0
        while process.poll() is None:
            now = _status(process.pid)
            peak = max(peak, now.get("VmHWM", 0.0))
            own = max(own, now.get("RssAnon", 0.0) + now.get("RssShmem", 0.0))
            time.sleep(0.02)
        said.seek(0)
        wrong.seek(0)
        if process.returncode:
            raise RuntimeError(f"{name} ended with {process.returncode}:\n{wrong.read()[-2000:]}")
        return {**json.loads(said.read().splitlines()[-1]), "peak": peak, "own": own}


def _status(pid: int) -> dict[str, float]:
    """The lines of a process' status that are sizes, MB; empty where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":") for line in lines if line.endswith(" kB"))
    return {name: int(size.split()[0]) * 1024 / 1e6 for name, size in pairs}


def rows(
    options: argparse.Namespace, directory: Path, found: dict[str, list[tuple[int, float, float]]]
) -> Iterator[tuple[Any, ...]]:
    """A row for each size and stage; CPU seconds and the peak of memory are added to ``found`` by stage."""
    extent = Extent(options.epochs, options.backend, options.learnt, options.applied)
    for patterns in options.patterns:
        scan = directory / f"scan_{patterns}_{options.size}" / "scan.h5"
        if not scan.is_file():
            measured("make", scan, directory / f"{patterns}_{options.size}", extent)
        megabytes = patterns * options.size**2 * 2 / 1e6
        with tempfile.TemporaryDirectory(dir=directory) as run:
            needed = {*options.stages, "reading", *(["training"] if "inference" in options.stages else [])}
            for name in (stage for stage in STAGES if stage in needed):
                result = measured(name, scan, Path(run), extent)
                found.setdefault(name, []).append((patterns, result["cpu"], result["peak"]))
                if options.images is not None and name in ("inference", "refinement"):
                    save_pictures(scan, Path(run), name, options.images / f"{patterns}_{options.size}_{name}")
                yield (
                    f"{patterns:,}",
                    name,
                    f"{result['seconds']:.1f}",
                    f"{result['cpu']:.1f}",
                    f"{megabytes:.0f}",
                    f"{ALLOWED_MB + ALLOWED_PART * megabytes:.0f}",
                    f"{result['peak']:.0f}",
                    f"{result['own']:.0f}",
                )


def save_pictures(scan: Path, run: Path, name: str, target: Path) -> None:
    """Leave the phase of what a stage has found, and of the truth, as pictures beside ``target``."""
    import h5py
    import matplotlib.pyplot as plt
    import numpy as np

    from ptychopinn_ptychodus.data.estimate import Estimate
    from ptychopinn_ptychodus.worker.job import NETWORK_DIRECTORY, REFINED_DIRECTORY

    found = Estimate.load(run / (NETWORK_DIRECTORY if name == "inference" else REFINED_DIRECTORY)).object
    with h5py.File(scan, "r") as file:
        truth = file["object"][()]
    target.parent.mkdir(parents=True, exist_ok=True)
    plt.imsave(f"{target}.png", np.angle(found), cmap="gray")
    plt.imsave(f"{target}_truth.png", np.angle(truth), cmap="gray")


def exponents(measured: list[tuple[int, float, float]]) -> tuple[float, float]:
    """Of fits of CPU seconds and of memory to a power of the number of patterns, in logarithms."""
    import numpy as np

    sizes, seconds, peaks = np.log(np.array(measured)).T
    return float(np.polyfit(sizes, seconds, 1)[0]), float(np.polyfit(sizes, peaks, 1)[0])


def main() -> None:
    """Measure what the options ask for, or do one stage of it."""
    if sys.argv[1:2] == ["--job"]:
        name, *paths, extent = sys.argv[2:]
        scan, run = map(Path, paths)
        print(json.dumps(stage(name, scan, run, Extent(**json.loads(extent)))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patterns", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--size", type=int, default=64, help="edge of a pattern, pixels")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--epochs", type=int, default=1, help="of the refinement")
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch", help="of networks")
    parser.add_argument("--learnt", type=int, metavar="GROUPS", help="that a network is trained on")
    parser.add_argument("--applied", type=int, metavar="GROUPS", help="that a network is applied to")
    parser.add_argument("--directory", type=Path, help="keep the scans here")
    parser.add_argument("--images", type=Path, help="pictures of the objects go here")
    options = parser.parse_args()
    framework = {"pytorch": "torch", "tensorflow": "keras"}[options.backend]
    print_header([framework, "numpy", "scipy"])
    found: dict[str, list[tuple[int, float, float]]] = {}
    columns = ("patterns", "stage", "s", "CPU s", "scan, MB", "allowed, MB", "peak, MB", "own, MB")
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        print_table(
            f"Stages of the worker, patterns of {options.size} × {options.size}",
            columns,
            rows(options, directory, found),
            "The scan: its patterns as uint16. Allowed: 1 GB and a fifth of that. Own: memory that is mapped "
            "from no file. Training, inference and refinement are jobs of the worker with all that belongs "
            "to them, such as the verdict; training also reads the file.",
        )
    if len(options.patterns) > 1:
        powers = {name: exponents(measured) for name, measured in found.items()}
        for number, what in enumerate(("CPU seconds", "Peaks of memory")):
            told = ", ".join(f"{name} {power[number]:.2f}" for name, power in powers.items())
            print(f"\n{what} grow as the number of patterns to the power: {told}.")


if __name__ == "__main__":
    main()
