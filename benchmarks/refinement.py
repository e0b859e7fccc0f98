"""The network alone, with refinement, refinement alone, and pty-chi: quality and CPU time of each.

    python benchmarks/refinement.py --data DATA --models synthetic=model.ckpt siemens_star=model.ckpt
        [--scans synthetic siemens_star] [--peer PYTHON] [--tables quality rings errors] [--images docs/img]

``--models`` are what ``ptychodus -b train`` left of each scan with ``examples/<scan>.ini``. ``--peer`` is a
Python with Ptychodus and pty-chi, whose LSQ-ML runs on the same scans. Both go through stock Ptychodus,
no window, and what is counted is the whole process with its children, imports and files included. pty-chi
imports torchvision for a blur that LSQ-ML does not use; where it is missing, a stand-in that raises when it
is called takes its place.

Refinement from a flat object needs no network and no Ptychodus; its whole process is counted, too.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _tables import in_fresh_process, print_header, print_table, use_one_thread

use_one_thread()

import h5py
import numpy as np
from _errors import ERRORS, moved, off_by, overlap
from _scans import (
    REFERENCES,
    ROOT,
    Result,
    Scan,
    copy_scan,
    cpu,
    run_or_raise,
    side_by_side,
    write_settings,
)
from _stock_lsqml import PROGRAM, lsqml

from ptychopinn_ptychodus.backends.registry import guess_engine
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine

MODES = {"synthetic": 1, "siemens_star": 3}
PEER_EPOCHS = {"synthetic": 60, "siemens_star": 45}
PEER_HALF_EPOCHS = 30
REFINED_EPOCHS = RefinementConfig().epochs
FLAT_EPOCHS = (20, 30)
ERROR_EPOCHS = 30
TARGETS = {
    "synthetic": "corr ≥ 0.995, amplitude SSIM ≥ 0.85, phase SSIM ≥ 0.92 in ≤ 1/5 of pty-chi's CPU time",
    "siemens_star": "residual ≤ 0.0095 in ≤ 1/3 of pty-chi's CPU time",
}
RINGS_NOTE = (
    "A pixel is 29.35 nm. Halves are refined apart. From a network, the start is what it makes of each half, "
    "but it has learnt from both: only flat starts are independent."
)
ERROR_COLUMNS = (
    "wrong",
    "corr, object refined only",
    "corr, all refined",
    "amp SSIM",
    "phase SSIM",
    "residual",
    "probe's overlap with the true one",
    "positions off, px",
)


# ---------------------------------------------------------------------- one run each


def refine_flat(job: dict[str, Any]) -> dict[str, float]:
    """Read a scan, refine from its flat object, and say what the process took; see :func:`flat`."""
    raw = read_standard_directory(Path(job["scan"])).select(
        slice(job["half"], None, 2 if job["halved"] else 1)
    )
    assert raw.objectGuess is not None
    config = RefinementConfig(epochs=job["epochs"], probe_modes=job["modes"])
    result = refine(raw, raw.objectGuess, raw.probeGuess, config, device="cpu")
    np.savez(job["out"], object=result.object, probe=result.probe, positions_rc_px=result.positions[:, ::-1])
    return {"cpu": cpu(resource.RUSAGE_SELF)}


def flat(scan: Path, epochs: int, scratch: Path, half: int | None = None) -> tuple[Result, float]:
    """The result of refinement alone, and the CPU seconds of its whole process."""
    out = scratch / "flat.npz"
    job = {"scan": str(scan), "epochs": epochs, "modes": MODES[scan.name], "out": str(out)}
    job |= {"half": half or 0, "halved": half is not None}
    spent = in_fresh_process([__file__, "--refine", json.dumps(job)])
    return Result.load(out), spent["cpu"]


def network(
    scan: Path,
    model: Path,
    epochs: int,
    scratch: Path,
    half: int | None = None,
    *,
    find_probe: bool | None = None,
) -> tuple[Result, float, float]:
    """The result of the plugin, CPU seconds of Ptychodus with its children, and those of the children.

    ``find_probe`` says whether a pretrained model's probe is found first; None leaves it to the example.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        source, target, settings = (Path(directory) / name for name in ("in", "out", "settings.ini"))
        copy_scan(scan, source, slice(None) if half is None else slice(half, None, 2))
        (source / f"model{''.join(model.suffixes)}").write_bytes(model.read_bytes())
        # the engine by name: without, Ptychodus looks for models of the preferred one only
        write_settings(
            scan.name,
            settings,
            {
                "PtychoPINNPluginModel": {"Backend": guess_engine(model).name},
                "PtychoPINNPluginRefinement": {"Epochs": epochs},
                "PtychoPINNPluginTraining": {} if find_probe is None else {"ProbeTrainable": find_probe},
            },
        )
        command = [sys.executable, "-c", PROGRAM, "-b", "reconstruct", "-s", str(settings)]
        printed, seconds = run_or_raise([*command, "-i", str(source), "-o", str(target)])
        expected = ["product.000050.h5", "product.000100.h5"][0 if epochs else 1 :]
        found = sorted(path.name for path in target.glob("product*.h5"))
        if found != expected:
            raise RuntimeError(f"With {epochs} epochs of refinement, {expected} were expected: {found}")
        return Result.load(target / found[-1]), seconds, float(printed.splitlines()[-1])


# ---------------------------------------------------------------------- tables


def quality(scan: Path, model: Path | None, python: str | None, scratch: Path, images: Path | None) -> None:
    """All ways to an object of one scan, against the reference and the peer."""
    measured: dict[str, tuple[Result, float, float | None]] = {}
    if model:
        measured["network only, all groups"] = network(scan, model, 0, scratch)
        measured[f"network, then {REFINED_EPOCHS} epochs"] = network(scan, model, REFINED_EPOCHS, scratch)
    for epochs in FLAT_EPOCHS:
        measured[f"flat start, {epochs} epochs, no network"] = *flat(scan, epochs, scratch), None
    if python:
        name = f"pty-chi LSQ-ML, flat start, {PEER_EPOCHS[scan.name]} epochs"
        measured[name] = *lsqml(scan, python, PEER_EPOCHS[scan.name], MODES[scan.name], scratch), None
    unit = measured[name][1] if python else None
    data = Scan(scan)
    apart = 0.0
    rows: list[list[str]] = []
    for name, (result, seconds, child) in measured.items():
        scores, other = data.scores(result), data.script_scores(result)
        if other:
            apart = max(apart, *(abs(scores[key] - other[key]) for key in ("corr", "amplitude", "phase")))
        residual = (other or scores)["residual"]
        rows.append(
            [
                name,
                f"{seconds:.1f}",
                "" if child is None else f"{child:.1f}",
                f"{seconds / unit:.3f}" if unit else "",
            ]
            + [f"{scores[key]:.4f}" for key in ("corr", "amplitude", "phase")]
            + [f"{residual:.5f}"]
        )
    scored_by = (
        f"The residual is evaluate.py's; its other scores differ from these by at most {apart:.4f}."
        if data.script.exists()
        else "All scores are this package's."
    )
    modes = MODES[scan.name]
    fitted = (
        f"Refined: object, probe ({modes} incoherent modes) and positions, by pty-chi likewise."
        if modes > 1
        else "Refined: object, probe and positions; by pty-chi object and probe, as in the scan's settings."
    )
    print_table(
        scan.name,
        ("what", "CPU s", "of which from Infer", "ratio", "corr", "amp SSIM", "phase SSIM", "residual"),
        rows,
        f"{fitted} {scored_by} Target: {TARGETS[scan.name]}.",
    )
    if images and model and python:
        names = ["network only", f"network, {REFINED_EPOCHS} epochs", "pty-chi LSQ-ML"]
        chosen = [result for result, _, _ in measured.values()]
        results = {"reference": data.reference}
        results |= dict(zip(names, (chosen[0], chosen[1], chosen[-1]), strict=True))
        images.mkdir(parents=True, exist_ok=True)
        side_by_side(data, results, images / f"{scan.name}_refined.png", scan.name)


def rings(scan: Path, model: Path | None, python: str | None, scratch: Path) -> Iterator[list[Any]]:
    """Odd against even patterns, each half by itself."""
    data = Scan(scan)
    evaluate = data.script_module()
    with h5py.File(scan / "product.h5") as file:
        pixel_nm = float(file["object"].attrs["pixel_width_m"]) * 1e9
    ways: dict[str, Callable[[int], tuple[Any, ...]]] = {}
    if model:
        ways["network only, all groups"] = partial(network, scan, model, 0, scratch)
        name = f"network, then {REFINED_EPOCHS} epochs"
        ways[name] = partial(network, scan, model, REFINED_EPOCHS, scratch)
    for epochs in FLAT_EPOCHS:
        ways[f"flat start, {epochs} epochs"] = partial(flat, scan, epochs, scratch)
    if python:
        other_python, modes = python, MODES[scan.name]
        ways[f"pty-chi LSQ-ML, flat start, {PEER_HALF_EPOCHS} epochs"] = lambda half: lsqml(
            scan, other_python, PEER_HALF_EPOCHS, modes, scratch, slice(half, None, 2)
        )
    for name, way in ways.items():
        (first, seconds, *_), (second, more, *_) = way(0), way(1)
        own = own_rings(first, second, pixel_nm)
        other = "" if evaluate is None else script_rings(evaluate, first, second, pixel_nm)
        yield [name, f"{seconds + more:.1f}", own, other]


def own_rings(first: Result, second: Result, pixel_nm: float) -> str:
    found = metrics.fourier_ring_correlation(first.object, second.object, first.lit()).half_period(pixel_nm)
    return f"below {pixel_nm:.0f}" if found is None else f"{found:.1f}"


def script_rings(evaluate: Any, first: Result, second: Result, pixel_nm: float) -> str:
    """As ``evaluate.py --frc`` does it with two files."""
    mask = evaluate.illumination_mask(first.positions, first.probe, first.object.shape, 0.3)
    found = evaluate.frc(first.object, second.object, mask, pixel_nm)["half_period"]
    return f"{found:.1f}" if np.isfinite(found) else f"below {pixel_nm:.0f}"


def errors(scan: Path) -> Iterator[list[Any]]:
    """Refinement of a scan whose probe or positions are wrong, in this process."""
    data = Scan(scan)
    truth = data.reference
    for name, (spoil, reach) in ERRORS.items():
        positions = moved(truth.positions, reach)
        raw = RawData(
            xcoords=positions[:, 1],
            ycoords=positions[:, 0],
            diff3d=data.raw.diff3d,
            probeGuess=truth.probe,
            domain="amplitude",
            bad_pixels=data.raw.bad_pixels,
        )
        probe = np.asarray(spoil(truth.probe), np.complex64)
        row: list[str] = [name]
        for refined in (False, True):
            config = RefinementConfig(epochs=ERROR_EPOCHS, probe=refined, positions=refined)
            found = refine(raw, np.ones(truth.object.shape, np.complex64), probe, config, device="cpu")
            result = Result(found.object, found.probe, found.positions[:, ::-1])
            scores = data.scores(result)
            row += [f"{scores['corr']:.4f}"]
        row += [f"{scores[key]:.4f}" for key in ("amplitude", "phase")] + [f"{scores['residual']:.5f}"]
        row += [f"{overlap(probe, truth.probe):.3f} → {overlap(result.probe, truth.probe):.3f}"]
        before, after = (off_by(p, truth.positions) for p in (positions, result.positions))
        yield [*row, f"{before:.3f} → {after:.3f}"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="directory of the scans")
    parser.add_argument("--scans", nargs="+", choices=list(REFERENCES), default=list(REFERENCES))
    parser.add_argument("--models", nargs="+", default=[], metavar="SCAN=MODEL")
    parser.add_argument("--peer", metavar="PYTHON")
    tables = ["quality", "rings", "errors"]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "img")
    parser.add_argument("--refine", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.refine:
        print(json.dumps(refine_flat(arguments.refine)))
        return 0
    if arguments.data is None:
        parser.error("--data is needed")
    models = {name: Path(path) for name, _, path in (item.partition("=") for item in arguments.models)}
    print_header(["ptychopinn-ptychodus", "ptychodus", "torch", "numpy", "scipy"])
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        for name in arguments.scans:
            scan, model = arguments.data / name, models.get(name)
            if "quality" in arguments.tables:
                quality(scan, model, arguments.peer, scratch, arguments.images)
            if "rings" in arguments.tables and name == "siemens_star":
                print_table(
                    f"{name}, odd against even patterns, half-bit threshold",
                    ("each half", "CPU s, both", "half period nm", "by evaluate.py"),
                    rings(scan, model, arguments.peer, scratch),
                    RINGS_NOTE,
                )
            if "errors" in arguments.tables and name == "synthetic":
                print_table(
                    f"{name}, wrong at the start, {ERROR_EPOCHS} epochs of refinement from a flat object",
                    ERROR_COLUMNS,
                    errors(scan),
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
