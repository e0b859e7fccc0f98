"""``demo``: a simulated scan, trained on and reconstructed by the stock application, set beside the truth."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.metrics import align, compare, illumination_mask
from ..data.raw import RawData
from ..data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ..formatting import duration
from ..ptychodus_io import standard_scan
from ..ptychodus_io.names import MODEL_BASENAME, PRODUCT_FILE, SETTINGS_FILE
from ..ptychodus_io.standard_scan import in_ptychodus, pixel_size_m
from .commands import reconstruct_in, require_writable_directory, train_in
from .errors import SUCCESS
from .report import NETWORK_FILE
from .session import open_session

N = 64
STEP_PX = 6.0
MARGIN_PX = 36
"""From the border of the object to the first position: half a pattern, and room for the jitter."""

PHOTONS = 1e6
SEED = 7

PIXEL_M = pixel_size_m(N)

SCAN, RESULT, PICTURE, TRUTH = "scan", "result", "demo.png", "truth.npz"


@dataclass(frozen=True)
class Size:
    """How much work the demo is: positions along each axis, and epochs."""

    positions: int
    epochs: int


FULL, QUICK = Size(24, 4), Size(8, 1)

# The simulated probe is known and has one mode; the plugin's defaults allow for a measured one.
_SETTINGS = """\
[Processing]
Algorithm = ptychopinn-plugin_pinn

[PtychoPINNPluginModel]
GridSize = 2

[PtychoPINNPluginData]
NeighborCount = 8

[PtychoPINNPluginTraining]
Epochs = {epochs}
ProbeModes = 1
ProbeTrainable = False

[PtychoPINNPluginRefinement]
Probe = False
Positions = False
"""


def demo(arguments: argparse.Namespace) -> int:
    """Run the demo; see ``ptychopinn-ptychodus demo --help``."""
    started = time.monotonic()
    size = QUICK if arguments.quick else FULL
    epochs = arguments.epochs or size.epochs
    output = arguments.output.absolute()
    scan, result = output / SCAN, output / RESULT
    for directory in (output, scan, result):
        require_writable_directory(directory)

    raw = simulate(size.positions)
    write_standard_directory(raw, scan)
    (scan / SETTINGS_FILE).write_text(_SETTINGS.format(epochs=epochs), encoding="utf-8")
    # not into the scan's directory, where a training would take it for data
    np.savez(output / TRUTH, object=_object_of(raw), probe=raw.probeGuess, x=raw.xcoords, y=raw.ycoords)
    print(f"Simulated scan: {scan} ({raw.n_patterns} patterns of {N} × {N}, {PHOTONS:.0e} photons each)")

    with open_session(
        settings_files=[scan / SETTINGS_FILE], stock=True, verbose=arguments.verbose, debug=arguments.debug
    ) as app:
        code = train_in(app, scan, scan)
        if code == SUCCESS:
            code = reconstruct_in(app, scan, scan / f"{MODEL_BASENAME}{app.model_extension}", result)
    if code != SUCCESS:
        return code

    score(raw, result / NETWORK_FILE, "Network alone")
    found, lines = score(raw, result / PRODUCT_FILE, "Refined")
    draw(raw, found, lines, _read_history(scan / "training_history.csv"), output / PICTURE)
    print(f"Picture: {output / PICTURE}")
    print(f"Truth: {output / TRUTH}")
    print(f"Finished in {duration(time.monotonic() - started)}. The same with Ptychodus' own command:")
    print(f"  ptychodus -b train -i {scan} -o {scan}")
    print(f"  ptychodus -b reconstruct -i {scan} -o {result}")
    return SUCCESS


def simulate(positions: int) -> RawData:
    """A raster scan of ``positions`` × ``positions`` over a test object."""
    edge = 2 * MARGIN_PX + round(STEP_PX * (positions - 1)) + 1
    x, y = raster_positions(positions, positions, STEP_PX, origin=MARGIN_PX, seed=SEED)
    return simulate_scan(make_object((edge, edge), seed=SEED), make_probe(N), x, y, PHOTONS, SEED)


def write_standard_directory(raw: RawData, directory: Path) -> None:
    """Write a scan as a beamline leaves it: counts, positions, probe, and a flat object."""
    data, product = in_ptychodus(
        raw,
        np.ones_like(_object_of(raw)),
        photons=PHOTONS,
        name="demo",
        comments="simulated by ptychopinn-ptychodus demo",
    )
    standard_scan.write_standard_directory(directory, data, product)


def score(raw: RawData, product_file: Path, what: str) -> tuple[NDArray[np.complex64], list[str]]:
    """Compare with the truth where there was light, and print the scores.

    Returns
    -------
    The object, aligned with the truth, and a line for its amplitude and one for its phase.
    """
    from ptychodus.api.io import load_product

    truth, lit = _object_of(raw), _lit(raw)
    found = np.asarray(load_product(product_file).object_.get_layer(0))
    comparison = compare(found, truth, lit)
    lines = [
        f"SSIM {scores.ssim:.3f}, PSNR {scores.psnr_db:.1f} dB"
        for scores in (comparison.amplitude, comparison.phase)
    ]
    correlation = comparison.complex_correlation_centred
    print(f"{what}: amplitude {lines[0]}; phase {lines[1]}")
    print(f"{what}: centred complex correlation {correlation:.3f} (0 is flat, 1 the truth)")
    return align(found, truth, lit)[0].astype(np.complex64), lines


def draw(
    raw: RawData,
    found: NDArray[np.complex64],
    lines: Sequence[str],
    losses: dict[str, list[tuple[int, float]]],
    picture: Path,
) -> None:
    """Truth and result where there was light, and the losses."""
    from .pictures import draw_comparison

    lit = _lit(raw)
    rows, columns = (np.flatnonzero(lit.any(axis=axis)) for axis in (1, 0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    draw_comparison(
        _object_of(raw)[window],
        found[window],
        losses,
        lines,
        f"Demo: {raw.n_patterns} simulated patterns, learnt from diffraction alone, refined",
        picture,
    )


def _lit(raw: RawData) -> NDArray[np.bool_]:
    height, width = _object_of(raw).shape
    return illumination_mask(raw.probeGuess, raw.xcoords, raw.ycoords, (height, width))


def _object_of(raw: RawData) -> NDArray[np.complex64]:
    assert raw.objectGuess is not None
    return raw.objectGuess


def _read_history(path: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {"training": [], "validation": []}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for label, column in (("training", "train_loss"), ("validation", "val_loss")):
                if row[column]:
                    curves[label].append((int(row["epoch"]), float(row[column])))
    return {label: curve for label, curve in curves.items() if curve}
