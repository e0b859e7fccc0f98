"""A scan of ours in Ptychodus' types, and as the files of its standard directory.

For simulated scans: the demo writes them to disk, the contract suite hands them to reconstructors. Ptychodus
is imported only where it is needed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..data.raw import RawData
from .product_geometry import HC_EV_M

if TYPE_CHECKING:
    from ptychodus.api.assemble import AssembledDiffractionData
    from ptychodus.api.product import Product

# Geometry that makes a pixel of about 59 nm for 64 x 64 patterns: it only has to agree with itself.
ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M = 8800.0, 2.0, 75e-6
WAVELENGTH_M = HC_EV_M / ENERGY_EV


def pixel_size_m(n: int) -> float:
    """Edge of an object pixel for patterns of n × n pixels, metres."""
    return WAVELENGTH_M * DISTANCE_M / (n * DETECTOR_PIXEL_M)


def in_ptychodus(
    raw: RawData,
    object_: ArrayLike,
    *,
    photons: float,
    name: str,
    comments: str = "",
    center_m: tuple[float, float] = (0.0, 0.0),
) -> tuple[AssembledDiffractionData, Product]:
    """A simulated scan as a beamline would leave it: counts as integers, positions in metres.

    Parameters
    ----------
    raw
        The scan; its positions are pixels of the object.
    object_
        (H, W) complex, the product's object, on the grid of the positions.
    photons
        Mean photons of a pattern, for the metadata.
    name, comments
        The product's.
    center_m
        (x, y) of the middle of the object, metres.
    """
    from ptychodus.api.geometry import PixelGeometry
    from ptychodus.api.object import Object, ObjectCenter
    from ptychodus.api.probe import ProbeSequence
    from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
    from ptychodus.api.product import Product, ProductMetadata

    try:
        assemble = importlib.import_module("ptychodus.api.assemble")
    except ModuleNotFoundError:  # Ptychodus 1.5
        assemble = importlib.import_module("ptychodus.api.diffraction")

    transmission = np.asarray(object_, dtype=np.complex64)
    counts = np.rint(np.square(raw.diff3d, dtype=np.float64))
    pixel_m = pixel_size_m(raw.N)
    pixel = PixelGeometry(width_m=pixel_m, height_m=pixel_m)
    middle_x, middle_y = (transmission.shape[1] - 1) / 2, (transmission.shape[0] - 1) / 2
    positions = [
        ProbePosition(index, center_m[0] + (x - middle_x) * pixel_m, center_m[1] + (y - middle_y) * pixel_m)
        for index, (x, y) in enumerate(zip(raw.xcoords.tolist(), raw.ycoords.tolist(), strict=True))
    ]
    data = assemble.AssembledDiffractionData(
        np.arange(raw.n_patterns),
        counts.astype(np.uint16 if counts.max() < 2**16 else np.uint32),
        PixelGeometry(width_m=DETECTOR_PIXEL_M, height_m=DETECTOR_PIXEL_M),
        raw.bad_pixels,
    )
    product = Product(
        # by position: Ptychodus 1.7 has other names for energy and attenuation than those before it
        metadata=ProductMetadata(name, comments, DISTANCE_M, ENERGY_EV, photons, 1.0, 0.0, 0.0),
        probe_positions=ProbePositionSequence(positions),
        probes=ProbeSequence(raw.probeGuess[np.newaxis], None, pixel),
        object_=Object(transmission[np.newaxis], pixel, ObjectCenter(*center_m), []),
        losses=[],
    )
    return data, product


def write_standard_directory(directory: Path, data: AssembledDiffractionData, product: Product) -> None:
    """Write ``diffraction.h5`` and ``product.h5`` (in Ptychodus 1.5 ``product-in.h5``), as Ptychodus does."""
    from ptychodus.api.io import StandardFileLayout, save_diffraction_data, save_product

    save_diffraction_data(directory / "diffraction.h5", data)
    save_product(directory / getattr(StandardFileLayout, "PRODUCT_IN", "product.h5"), product)
