"""The simulated scan that the checks work with: small, and such that mistakes of geometry show."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, prepare_reconstruct_input

from ..data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ..ptychodus_io import standard_scan

if TYPE_CHECKING:  # Ptychodus 1.5 has it elsewhere, see standard_scan
    from ptychodus.api.assemble import AssembledDiffractionData

COLUMNS, ROWS = 5, 4
"""Not as many rows as columns: what exchanges them must not get away with it."""

STEP_PX = 6.0
PHOTONS = 1e5
CENTER_M = (3e-7, -5e-7)
"""Not the origin: a product whose centre is dropped has its object in another place."""


@functools.lru_cache(maxsize=4)
def _simulated(n: int) -> tuple[AssembledDiffractionData, Product]:
    margin = n // 2 + 4
    x, y = raster_positions(COLUMNS, ROWS, STEP_PX, origin=margin, seed=1)
    width, height = (2 * margin + round(STEP_PX * (count - 1)) + 1 for count in (COLUMNS, ROWS))
    truth = make_object((height, width), seed=1)
    raw = simulate_scan(truth, make_probe(n, modes=2), x, y, PHOTONS, 1)
    raw.bad_pixels[3, 5] = True
    return standard_scan.in_ptychodus(raw, truth, photons=PHOTONS, name="contract", center_m=CENTER_M)


def reconstruct_input(n: int) -> ReconstructInput:
    """A scan of 20 positions with n × n pixels, in arrays of its own.

    Patterns are (20, n, n) unsigned integers, the probe (1, 2, n, n) complex64; the object, (1, H, W)
    complex64, is the true one, so that there is something to learn for supervised reconstructors.
    """
    data, product = _simulated(n)
    fresh = Product(
        metadata=product.metadata,
        probe_positions=product.probe_positions,
        probes=product.probes.copy(),
        object_=product.object_.copy(),
        losses=[],
    )
    prepared = prepare_reconstruct_input(data, fresh)
    return ReconstructInput(
        np.array(prepared.diffraction_patterns), np.array(prepared.bad_pixels), prepared.product
    )


def write_standard_directory(directory: Path, n: int) -> None:
    """The same scan as ``diffraction.h5`` and ``product.h5``."""
    standard_scan.write_standard_directory(directory, *_simulated(n))


def fingerprint(parameters: ReconstructInput) -> Mapping[str, str]:
    """What must be the same before and after a reconstruction, by name."""
    product = parameters.product
    positions = product.probe_positions  # dataclasses, whose fields have other names in Ptychodus 1.5
    return {
        "diffraction_patterns": _digest(np.asarray(parameters.diffraction_patterns)),
        "bad_pixels": _digest(np.asarray(parameters.bad_pixels)),
        "product.object_": _digest(product.object_.get_array()),
        "product.probes": _digest(product.probes.get_array()),
        "product.probe_positions": repr(list(positions)),
        "product.metadata": repr(product.metadata),
        "product.losses": repr(list(product.losses)),
    }


def _digest(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
