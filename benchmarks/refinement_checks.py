"""Refinement where the answer is known, on patterns that it has not seen, and among broken frames.

    python benchmarks/refinement_checks.py --data DATA [--peer PYTHON] [--tables unseen known broken]

``unseen``: the Siemens star, nine of ten patterns refined; the residual is of the others, whose positions
alone are fitted. ``known``: a star like the measured one, simulated, once with the probe modes of its
reference and once with those that refinement finds. ``broken``: the simulated scan, some frames spoilt. All
from a flat object. ``--peer`` as in refinement.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import h5py
import numpy as np
from _scans import Result, Scan, copy_scan, refined_from_flat
from _stock_lsqml import lsqml
from numpy.typing import NDArray
from refinement import PEER_EPOCHS
from scipy import ndimage

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.probe import orthogonal_modes
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import diffraction_intensity, extract_patches
from ptychopinn_ptychodus.ptychodus_io.ingest import read_standard_directory
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import NumpyArrays
from ptychopinn_ptychodus.refinement.iterate import Iterate, chequerboard
from ptychopinn_ptychodus.refinement.model import ScanModel
from ptychopinn_ptychodus.refinement.start import Window

STAR = "siemens_star"
MODES = 3
EPOCHS = (10, 20)
FLUCTUATION = 0.018  # of the beam from frame to frame, as measured


def flat(scan: Path, epochs: int, modes: int = MODES, raw: RawData | None = None) -> tuple[Result, Any]:
    """Refinement from ones, and the weights of the patterns."""
    raw = raw or read_standard_directory(scan)
    return refined_from_flat(raw, raw.probeGuess, RefinementConfig(epochs=epochs, probe_modes=modes))


def refined(scan: Path, epochs: int) -> Result:
    return flat(scan, epochs)[0]


def ways(python: str | None, scratch: Path) -> dict[str, Callable[[Path], Result]]:
    found: dict[str, Callable[[Path], Result]] = {
        f"refinement, {epochs} epochs": partial(refined, epochs=epochs) for epochs in EPOCHS
    }
    if python:
        epochs = PEER_EPOCHS[STAR]
        found[f"pty-chi LSQ-ML, {epochs} epochs"] = lambda scan: lsqml(scan, python, epochs, MODES, scratch)[
            0
        ]
    return found


def powers(probe: NDArray[Any]) -> str:
    """Parts of the power in orthogonal modes, per cent."""
    modes = np.sum(np.abs(orthogonal_modes(probe.astype(np.complex64))) ** 2, axis=(1, 2))
    return " : ".join(f"{100 * part:.0f}" for part in modes / modes.sum())


# ---------------------------------------------------------------------- unseen patterns


def unseen(scan: Path, python: str | None, scratch: Path) -> Iterator[list[Any]]:
    raw = read_standard_directory(scan)
    left_out = np.arange(raw.n_patterns) % 10 == 3
    part = scratch / "part" / STAR
    copy_scan(scan, part, np.flatnonzero(~left_out))
    nominal = np.stack((raw.xcoords, raw.ycoords), -1)
    for name, way in ways(python, scratch).items():
        result = way(part)
        offset = np.median(result.positions[:, ::-1] - nominal[~left_out], axis=0)
        seen, new = (
            residual(raw.select(np.flatnonzero(chosen)), result, offset) for chosen in (~left_out, left_out)
        )
        yield [name, f"{seen:.5f}", f"{new:.5f}", powers(result.probe)]


def residual(raw: RawData, result: Result, offset: NDArray[np.float64]) -> float:
    """Normalised residual of patterns for a given object and probe, with a fit of their positions."""
    arrays, window = NumpyArrays(), Window(result.object.shape, raw, 6.0)
    model, scan = ScanModel(raw, arrays, "amplitude"), np.arange(raw.n_patterns)
    canvas = window.cut(np.asarray(result.object, np.complex64))
    probe = np.asarray(result.probe * chequerboard(raw.N), np.complex64)
    iterate = Iterate(canvas, probe, window.inside(np.stack((raw.xcoords, raw.ycoords), -1) + offset))
    for _ in range(12):
        found = model.compare(iterate, scan)
        iterate.probe *= np.float32(found.cross.sum() / found.modelled.sum())
        gradients = model.gradients(iterate, scan, probe=False, positions=True)
        assert gradients.positions is not None
        assert gradients.curvature is not None
        curvature = gradients.curvature + 0.05 * gradients.curvature.mean()
        iterate.positions += np.clip(-0.8 * gradients.positions / curvature, -0.3, 0.3)
    found = model.compare(iterate, scan)
    return float(found.errors.sum() / found.counts.sum())


# ---------------------------------------------------------------------- a known star


def known(scan: Path, python: str | None, scratch: Path) -> Iterator[list[Any]]:
    data = Scan(scan)
    probes = {"as the reference's": data.reference.probe, "as refined": refined(scan, EPOCHS[-1]).probe}
    for number, (modes, probe) in enumerate(probes.items()):
        directory = scratch / f"known{number}" / STAR
        truth = simulated(data, probe, directory)
        for name, way in ways(python, scratch).items():
            result = way(directory)
            found = metrics.compare(result.on_grid_of(truth), truth.object, data.mask)
            scores = (found.complex_correlation_centred, found.amplitude.ssim, found.phase.ssim)
            yield [
                f"{modes}, {powers(probe)}",
                name,
                *(f"{score:.4f}" for score in scores),
                powers(result.probe),
            ]


def simulated(data: Scan, probe: NDArray[Any], directory: Path) -> Result:
    """Write the scan with patterns of a star in two levels and some grain; return the truth."""
    reference, mask = data.reference.object, data.mask
    phase, amplitude = np.angle(reference), np.abs(reference)
    smooth = ndimage.gaussian_filter(phase, 1)
    bright = smooth > np.percentile(smooth[mask], (5, 95)).mean()
    high, low = (
        np.median(amplitude[part]) * np.exp(1j * np.median(phase[part]))
        for part in (bright & mask, ~bright & mask)
    )
    levels = ndimage.gaussian_filter(np.where(bright, high, low), 0.6)
    grain = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=reference.shape), 1.2)
    truth = levels * np.exp((0.01 + 0.02j) * grain / grain.std())
    positions = data.reference.positions
    y, x = positions.T
    patterns = diffraction_intensity(extract_patches(truth, x, y, data.raw.N), probe)
    patterns *= float((data.raw.diff3d**2).sum(axis=(1, 2)).mean() / patterns.sum(axis=(1, 2)).mean())
    rng = np.random.default_rng(3)
    patterns *= 1 + FLUCTUATION * rng.normal(size=(len(patterns), 1, 1))
    copy_scan(data.directory, directory)
    with h5py.File(directory / "diffraction.h5", "r+") as file:
        attributes, kind = dict(file["patterns"].attrs), file["patterns"].dtype
        del file["patterns"]
        file["patterns"] = rng.poisson(patterns).astype(kind)
        file["patterns"].attrs.update(attributes)
    return Result(truth, probe, positions)


# ---------------------------------------------------------------------- broken frames


def broken(scan: Path) -> Iterator[list[Any]]:
    data = Scan(scan)
    rng = np.random.default_rng(0)
    some = rng.choice(data.raw.n_patterns, data.raw.n_patterns // 100, replace=False)
    row = np.arange(320, 345)

    def hit(frame: NDArray[np.float32]) -> NDArray[np.float32]:
        frame = frame.copy()
        frame.ravel()[rng.choice(frame.size, 30, replace=False)] = np.sqrt(6e4)
        return frame

    spoilt: dict[str, tuple[NDArray[np.int64], Callable[[NDArray[np.float32]], NDArray[np.float32]]]] = {
        "none": (some[:0], lambda frame: frame),
        "1 % without beam": (some, lambda frame: 0 * frame),
        "1 % twice as bright": (some, lambda frame: frame * np.sqrt(2)),
        "1 % with 30 pixels of 60,000 counts": (some, hit),
        "25 in a row without beam": (row, lambda frame: 0 * frame),
    }
    for name, (frames, way) in spoilt.items():
        patterns = data.raw.diff3d.copy()
        for frame in frames:
            patterns[frame] = way(patterns[frame])
        raw = RawData(
            xcoords=data.raw.xcoords,
            ycoords=data.raw.ycoords,
            diff3d=patterns,
            probeGuess=data.raw.probeGuess,
            objectGuess=data.raw.objectGuess,
            domain="amplitude",
            bad_pixels=data.raw.bad_pixels,
        )
        result, weights = flat(scan, EPOCHS[-1], 1, raw)
        scores = data.scores(result)
        low = np.flatnonzero(weights < 0.5)
        yield [
            name,
            *(f"{scores[key]:.4f}" for key in ("corr", "amplitude", "phase")),
            f"{scores['residual']:.5f}",
            f"{np.isin(frames, low).sum()} of {len(frames)}",
            int((~np.isin(low, frames)).sum()),
        ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="directory of the scans")
    parser.add_argument("--peer", metavar="PYTHON")
    tables = ["unseen", "known", "broken"]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    arguments = parser.parse_args()
    print_header(["ptychopinn-ptychodus", "numpy", "scipy"])
    star = arguments.data / STAR
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        if "unseen" in arguments.tables:
            print_table(
                f"{STAR}, every tenth pattern left out",
                ("flat start", "residual, nine tenths", "residual, the rest", "power of the modes, %"),
                unseen(star, arguments.peer, scratch),
            )
        if "known" in arguments.tables:
            print_table(
                "A simulated star",
                ("true modes, %", "flat start", "corr", "amp SSIM", "phase SSIM", "modes found, %"),
                known(star, arguments.peer, scratch),
            )
        if "broken" in arguments.tables:
            print_table(
                f"synthetic, broken frames, {EPOCHS[-1]} epochs from a flat object",
                ("broken", "corr", "amp SSIM", "phase SSIM", "residual, sound scan", "found", "others"),
                broken(arguments.data / "synthetic"),
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
