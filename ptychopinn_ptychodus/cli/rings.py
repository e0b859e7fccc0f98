"""``frc``: two products of one sample, or the halves of one scan, compared ring by ring."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import replacing
from ..formatting import counted
from ..ptychodus_io.product_geometry import object_pixel_m
from .errors import INTERRUPTED, SUCCESS, UsageError
from .progress import ProgressDisplay, TimeLeft

if TYPE_CHECKING:
    from ptychodus.api.product import Product

    from ..data.metrics import RingCorrelation
    from ..data.raw import RawData

_ROWS = 20  # of the table, at most; the picture has all rings
_FEWEST = 16  # patterns of a scan whose halves can each be reconstructed
_ALIKE = 1e-3  # relative difference of pixels that are of one size


def frc(arguments: argparse.Namespace) -> int:
    """Compare ring by ring; see ``ptychopinn-ptychodus frc --help``."""
    first, second, picture = arguments.first, arguments.second, arguments.output
    for path in (first, second):
        if path is not None and not path.exists():
            raise UsageError(f'"{path}" does not exist.')
    if picture.is_dir():
        picture = picture / "frc.png"
    if not picture.absolute().parent.is_dir():
        raise UsageError(
            f'There is no directory "{picture.absolute().parent}" for the picture: name another with -o.'
        )
    if second is None:
        if not first.is_dir():
            raise UsageError(
                f'"{first}" is one product: name another one after it, or the directory of a scan.'
            )
        found = _halves_compared(first, arguments.epochs)
        if found is None:
            print("Interrupted: nothing was compared.")
            return INTERRUPTED
        rings, pixel_m = found
    else:
        product, other = load_product_file(first), load_product_file(second)
        try:
            rings = product_rings(product, other)
        except ValueError as exc:
            raise UsageError(f'"{first}" and "{second}" cannot be compared: {exc}') from exc
        pixel_m = object_pixel_m(product)[0]
    for line in _table(rings, pixel_m):
        print(line)
    _draw(rings, pixel_m, picture)
    print(f"Picture: {picture}")
    return SUCCESS


# ---- products ---------------------------------------------------------------------------------------------


def load_product_file(path: Path) -> Product:
    """The product in a file.

    Raises
    ------
    ValueError
        If it is none, or damaged, or its object has no pixel size, without which no length can be told.
    """
    from ptychodus.api.io import load_product

    try:
        product = load_product(path)
    except Exception as exc:  # Ptychodus' reader lets through what the libraries beneath it raise
        raise ValueError(f'"{path}" is not a product that can be read: {exc}') from exc
    try:
        object_pixel_m(product)
    except ValueError as exc:
        raise ValueError(f'"{path}": {exc}') from exc
    return product


def product_rings(product: Product, other: Product) -> RingCorrelation:
    """Rings between the objects of two products on one grid, where the first one's scan put light.

    Raises
    ------
    ValueError
        If they are on different grids.
    """
    from ..data.metrics import fourier_ring_correlation, illumination_mask
    from ..ptychodus_io.ingest import object_positions

    pixels = object_pixel_m(product), object_pixel_m(other)
    if not np.allclose(*pixels, rtol=_ALIKE, atol=0.0):
        sizes = ", ".join(f"{1e9 * x:.4g} × {1e9 * y:.4g} nm" for x, y in pixels)
        raise ValueError(f"Their pixels are of different sizes ({sizes}): compare objects on the same grid.")
    found = np.asarray(product.object_.get_layer(0))
    x, y = object_positions(product)
    modes = np.asarray(product.probes.get_array())[0]
    lit = illumination_mask(modes, x, y, (found.shape[0], found.shape[1]))
    return fourier_ring_correlation(found, np.asarray(other.object_.get_layer(0)), lit)


def resolution_in_words(rings: RingCorrelation, pixel_m: float) -> str:
    """Where the correlation falls below half a bit."""
    from .report_figures import in_units

    half = rings.half_period(pixel_m)
    if half is None:
        return "it never falls below half a bit"
    return f"half a bit at a half period of {in_units(half)}"


# ---- halves of a scan -------------------------------------------------------------------------------------


def _halves_compared(directory: Path, epochs: int | None) -> tuple[RingCorrelation, float] | None:
    """Each half reconstructed by itself from a flat object; None if that was interrupted."""
    from ..data.metrics import fourier_ring_correlation, illumination_mask
    from ..ptychodus_io.ingest import read_standard_directory
    from ..ptychodus_io.names import DIFFRACTION_FILE, product_in
    from ..verdict.halves import halves_of

    for path in (directory / DIFFRACTION_FILE, product_in(directory)):
        if not path.is_file():
            raise UsageError(f'There is no {path.name} in "{directory}": name the directory of a scan.')
    pixel_m = object_pixel_m(load_product_file(product_in(directory)))[0]
    raw = read_standard_directory(directory)
    if len(raw) < _FEWEST:
        raise UsageError(
            f'The scan in "{directory}" has {counted(len(raw), "pattern")}: {_FEWEST} or more can be halved.'
        )
    assert raw.objectGuess is not None
    shape = (raw.objectGuess.shape[0], raw.objectGuess.shape[1])
    objects = []
    for number, half in enumerate(halves_of(np.stack((raw.xcoords, raw.ycoords), -1)), start=1):
        found = _reconstructed(raw.select(half), f"half {number} of 2", epochs)
        if found is None:
            return None
        objects.append(found)
    lit = illumination_mask(raw.probeGuess, raw.xcoords, raw.ycoords, shape)
    print(f'The halves of "{directory}", {len(raw) // 2} patterns each, reconstructed by themselves:')
    return fourier_ring_correlation(objects[0], objects[1], lit), pixel_m


def _reconstructed(raw: RawData, title: str, epochs: int | None) -> np.ndarray | None:
    from ..api import ExaminationConfig, Observer, RefinementConfig, refine
    from ..settings_table import SETTINGS

    left = TimeLeft()

    class Shown(Observer):
        def on_progress(self, fraction: float) -> None:
            display.update(min(fraction, 0.999), left.at(fraction))

    config = RefinementConfig(epochs=epochs or int(SETTINGS["WithoutModel.Epochs"].default))
    alone = ExaminationConfig(judge=False, confidence=False)
    with ProgressDisplay(title) as display:
        try:
            found = refine(raw, config=config, examination=alone, observer=Shown())
        except KeyboardInterrupt:
            return None
        display.update(1.0, None, "done")
    return found.object


# ---- what is said -----------------------------------------------------------------------------------------


def _table(rings: RingCorrelation, pixel_m: float) -> Iterator[str]:
    from .report_figures import in_units

    yield f"{'half period':>12}  {'per pixel':>9}  {'correlation':>11}  {'half bit':>8}"
    count = len(rings.frequency)
    for ring in np.unique(np.linspace(0, count - 1, min(count, _ROWS)).round().astype(int)):
        frequency = float(rings.frequency[ring])
        yield (
            f"{in_units(pixel_m / frequency / 2):>12}  {frequency:9.4f}  {rings.correlation[ring]:11.4f}  "
            f"{rings.threshold[ring]:8.4f}"
        )
    text = resolution_in_words(rings, pixel_m)
    yield f"{text[0].upper()}{text[1:]}."


def _draw(rings: RingCorrelation, pixel_m: float, path: Path) -> None:
    from ..worker.confidence_picture import draw_rings, new_figure

    figure = new_figure(6.4, 3.6)
    draw_rings(figure.add_subplot(), rings, pixel_m)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
