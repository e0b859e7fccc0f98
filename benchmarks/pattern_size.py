"""Quality against the size of the patterns, through the stock Ptychodus command line.

    python benchmarks/pattern_size.py [--sizes N ...] [--patterns M] [--kind NAME] [--seed S]
                                      [--backend NAME] [--settings FILE] [--ways NAME ...] [--images DIR]

For each N, a scan of one kind of the collection (``benchmarks/zoo``) is written as a standard directory and
goes through ``ptychodus -b train`` and ``ptychodus -b reconstruct`` by ``PINN``, which leaves the network's
object and the refined one, and through ``ptychodus -b reconstruct`` by ``Refinement``, which begins with a
flat object. ``--ways`` chooses. Settings are the defaults, but for what the settings file of ``--settings``
says: a training by defaults takes long on a CPU where N is large.

The scans have so much in common that they can be compared: their beams are as wide, as parts of N, and so are
their steps and what an object of the kind has that scales with it; the beam's aperture, in cycles per pixel,
is the same, and so is the number of photons in a pixel. What is as wide as ever, as a part of the beam, has
more pixels where N is larger, and a window of SSIM, a few pixels wide, looks at less of it. So there are also
scores of objects that are resampled to the pixels that a scan of 64 × 64 has.

CPU seconds are those of the whole command, start of the application included.
"""

from __future__ import annotations

import argparse
import configparser
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _tables import print_header, print_table, use_one_thread

use_one_thread()

import numpy as np
from _scans import REFERENCES, Result, Scan, run_or_raise, side_by_side
from numpy.typing import NDArray
from skimage.transform import resize
from zoo.kinds import KINDS
from zoo.make import make

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.ptychodus_io.standard_scan import in_ptychodus, write_standard_directory

SIZES, REFERENCE = (64, 96, 192, 512), 64
TRAINED, NETWORK, REFINED, FLAT = "training", "network", "network, refined", "flat, refined"
WAYS = ("network", "flat")
COLUMNS = (
    "N",
    "what",
    "corr",
    "amp SSIM",
    "phase SSIM",
    f"corr, {REFERENCE}'s pixels",
    f"amp SSIM, {REFERENCE}'s pixels",
    f"phase SSIM, {REFERENCE}'s pixels",
    "residual",
    "CPU s",
)


@dataclass(frozen=True)
class Row:
    """What one command has left, and the CPU seconds that it took; no result of a training."""

    what: str
    cpu: float | None = None
    result: Result | None = None


def write_scan(directory: Path, kind: str, size: int, patterns: int, seed: int) -> None:
    """A scan of the kind as a standard directory with its truth."""
    one = KINDS[kind]
    photons = one.photons * (size / one.size) ** 2
    made = make(replace(one, size=size, count=patterns, photons=photons), seed)
    assert made.raw.objectGuess is not None
    data, product = in_ptychodus(made.raw, made.raw.objectGuess, photons=photons, name=f"{kind}, {size}")
    directory.mkdir(parents=True)
    write_standard_directory(directory, data, product)
    positions = made.positions[:, ::-1]
    reference = directory / REFERENCES["synthetic"]
    np.savez(reference, object=made.object, probe=made.probe, positions_rc_px=positions)


def write_settings(path: Path, algorithm: str, options: argparse.Namespace) -> None:
    """The file of ``-s``."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.optionxform = str  # type: ignore[assignment, method-assign]
    settings.read_dict(
        {
            "Processing": {"Algorithm": f"ptychopinn-plugin_{algorithm}"},
            "PtychoPINNPluginModel": {"Backend": options.backend},
            "PtychoPINNPluginTraining": {"Accelerator": "cpu"},
            "PtychoPINNPluginData": {"Seed": "0"},
        }
    )
    if options.settings is not None:
        with options.settings.open() as file:
            settings.read_file(file)
    with path.open("w") as file:
        settings.write(file)


def found(scan: Path, work: Path, options: argparse.Namespace) -> Iterator[Row]:
    """What Ptychodus makes of a scan, each as soon as it is done."""
    ptychodus = [str(Path(sys.executable).with_name("ptychodus")), "-i", str(scan)]
    settings = work / "settings.ini"
    if "network" in options.ways:
        write_settings(settings, "pinn", options)
        command = [*ptychodus, "-s", str(settings), "-b"]
        yield Row(TRAINED, run_or_raise([*command, "train", "-o", str(scan)])[1])
        _, seconds = run_or_raise([*command, "reconstruct", "-o", str(work / "network")])
        network, refined = sorted((work / "network").glob("product*.h5"))
        yield Row(NETWORK, None, Result.load(network))
        yield Row(REFINED, seconds, Result.load(refined))
    if "flat" in options.ways:
        write_settings(settings, "refinement", options)
        command = [*ptychodus, "-s", str(settings), "-b"]
        _, seconds = run_or_raise([*command, "reconstruct", "-o", str(work / "flat")])
        (product,) = (work / "flat").glob("product*.h5")
        yield Row(FLAT, seconds, Result.load(product))


def coarse_scores(scan: Scan, result: Result, size: int) -> dict[str, float]:
    """Scores on the pixels that the scan would have with patterns of :data:`REFERENCE`."""
    truth = scan.reference.object
    shape = tuple(round(edge * REFERENCE / size) for edge in truth.shape)

    def resampled(values: NDArray[Any]) -> NDArray[Any]:
        # scikit-image has no types
        fewer = resize(values, shape, order=1, mode="edge", anti_aliasing=True)  # type: ignore[no-untyped-call]
        return np.asarray(fewer)

    def coarse(image: NDArray[Any]) -> NDArray[np.complex128]:
        return resampled(image.real.astype(float)) + 1j * resampled(image.imag.astype(float))

    aligned, _ = metrics.align(result.on_grid_of(scan.reference), truth, scan.mask)
    scores = metrics.compare(coarse(aligned), coarse(truth), resampled(scan.mask.astype(float)) > 0.99)
    return {
        "corr": scores.complex_correlation_centred,
        "amplitude": scores.amplitude.ssim,
        "phase": scores.phase.ssim,
    }


def cells(size: int, row: Row, scan: Scan) -> tuple[str, ...]:
    """Of a row of the table."""
    spent = "" if row.cpu is None else f"{row.cpu:.0f}"
    if row.result is None:
        return (str(size), row.what, *[""] * (len(COLUMNS) - 3), spent)
    fine, coarse = scan.scores(row.result), coarse_scores(scan, row.result, size)
    scores = [f"{one[key]:.4f}" for one in (fine, coarse) for key in ("corr", "amplitude", "phase")]
    return (str(size), row.what, *scores, f"{fine['residual']:.5f}", spent)


def rows(options: argparse.Namespace, work: Path) -> Iterator[tuple[str, ...]]:
    """All sizes, one after the other."""
    for size in options.sizes:
        here = work / str(size)
        write_scan(here / "scan", options.kind, size, options.patterns, options.seed)
        scan = Scan(here / "scan")
        shown: dict[str, Result] = {}
        for row in found(here / "scan", here, options):
            if row.result is not None:
                shown[row.what] = row.result
            yield cells(size, row, scan)
        if options.images is not None:
            _draw(scan, shown, options, size)


def _draw(scan: Scan, shown: Mapping[str, Result], options: argparse.Namespace, size: int) -> None:
    title = f"{options.kind}, {size} × {size}, seed {options.seed}, {options.backend}"
    path = options.images / f"pattern_size_{size}_{options.backend}.png"
    side_by_side(scan, {**shown, "truth": scan.reference}, path, title)


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--patterns", type=int, default=100, metavar="M", help="about so many")
    parser.add_argument("--kind", choices=list(KINDS), metavar="NAME", default="usual")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="of Ptychodus, over the defaults")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--images", type=Path, metavar="DIR", help="pictures of the objects go here")
    options = parser.parse_args()
    if options.images is not None:
        options.images.mkdir(parents=True, exist_ok=True)
    print_header(["ptychodus", {"pytorch": "torch", "tensorflow": "keras"}[options.backend], "numpy"])
    with tempfile.TemporaryDirectory() as directory:
        title = f"'{options.kind}', about {options.patterns} patterns, seed {options.seed}"
        print_table(title, COLUMNS, rows(options, Path(directory)))


if __name__ == "__main__":
    main()
