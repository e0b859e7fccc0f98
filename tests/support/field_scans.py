"""A sound simulated scan, and the same with one thing wrong or unusual, as people really bring them.

Each case is a change of :class:`Scan`; what ought to happen is in the tests.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import save_diffraction_data, save_product
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product, ProductMetadata

from ptychopinn_ptychodus.data.simulation import (
    diffraction_intensity,
    extract_patches,
    make_object,
    make_probe,
    raster_positions,
)
from ptychopinn_ptychodus.ptychodus_io.standard_scan import (
    DETECTOR_PIXEL_M,
    DISTANCE_M,
    ENERGY_EV,
    pixel_size_m,
)

N = 64
SIDE = 13  # positions along each axis
STEP_PX = 6.0
EDGE_PX = 148
MARGIN_PX = 38  # from the border of the object to the first position
PHOTONS = 1e6


@dataclass
class Scan:
    """A scan as it lies on a beamline's disk.

    Attributes
    ----------
    patterns
        (M, N, N) as the detector writes them.
    bad
        (N, N) bool.
    x, y
        (M,) positions, pixels from the middle of the object.
    probe
        (modes, N, N) complex, ``Σ|P|²`` photons.
    truth
        (H, W) complex object.
    counts
        Photons that the product says each position was lit with; None: it does not say.
    """

    patterns: NDArray[Any]
    bad: NDArray[np.bool_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    probe: NDArray[np.complex64]
    truth: NDArray[np.complex64]
    counts: NDArray[np.float64] | None = None

    def but(self, **changes: Any) -> Scan:
        """A copy with other values."""
        return dataclasses.replace(self, **changes)

    def write(self, directory: Path, **attributes: Any) -> Path:
        """As a standard directory; ``attributes`` are of the product file. Returns the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        pixel_m = pixel_size_m(N)
        pixel = PixelGeometry(pixel_m, pixel_m)
        photons = [None] * len(self.x) if self.counts is None else self.counts.tolist()
        positions = [
            ProbePosition(index, x * pixel_m, y * pixel_m, *([] if count is None else [count]))
            for index, (x, y, count) in enumerate(zip(self.x.tolist(), self.y.tolist(), photons, strict=True))
        ]
        product = Product(
            metadata=ProductMetadata("scan", "", DISTANCE_M, ENERGY_EV, PHOTONS, 1.0, 0.0, 0.0),
            probe_positions=ProbePositionSequence(positions),
            probes=ProbeSequence(self.probe[np.newaxis], None, pixel),
            object_=Object(np.ones((1, *self.truth.shape), np.complex64), pixel, ObjectCenter(0.0, 0.0), []),
            losses=[],
        )
        data = AssembledDiffractionData(
            np.arange(len(self.x)), self.patterns, PixelGeometry(DETECTOR_PIXEL_M, DETECTOR_PIXEL_M), self.bad
        )
        save_diffraction_data(directory / "diffraction.h5", data)
        save_product(directory / "product.h5", product)
        with h5py.File(directory / "product.h5", "a") as file:
            file.attrs.update(attributes)
        return directory

    def with_known_object(self, directory: Path) -> None:
        """Have the product in ``directory`` hold the true object, which Supervised learns from."""
        with h5py.File(directory / "product.h5", "a") as file:
            file["object"][...] = self.truth.reshape(file["object"].shape)

    def write_npz(self, path: Path, **changes: Any) -> Path:
        """As training data of counts, with positions in pixels; returns the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        middle = (EDGE_PX - 1) / 2
        fields = {
            "xcoords": self.x + middle,
            "ycoords": self.y + middle,
            "diff3d": self.patterns,
            "probeGuess": self.probe,
            **changes,
        }
        np.savez(path, **fields)
        return path


def sound_scan(
    seed: int = 3, *, photons: float = PHOTONS, beam: NDArray[np.float64] | None = None, kind: str = "mixed"
) -> Scan:
    """A scan with nothing wrong; ``beam`` (M,) are relative exposures of its patterns."""
    truth = make_object((EDGE_PX, EDGE_PX), kind, seed=seed)
    x, y = raster_positions(SIDE, SIDE, STEP_PX, origin=MARGIN_PX, seed=seed)
    # a probe without symmetry, as every real one is: what is mirrored or turned must be told apart
    rows, columns = np.mgrid[:N, :N] - (N - 1) / 2
    probe = make_probe(N) * np.exp(1j * (0.02 * columns * rows / 8 + 0.0006 * columns**2 * rows / 8))
    probe = probe * (1 + 0.012 * columns - 0.006 * rows)
    clean = diffraction_intensity_of(truth, probe, x, y)
    scale = photons / clean.sum((1, 2)).mean()
    exposures = np.ones(len(x)) if beam is None else beam
    patterns = np.random.default_rng(seed).poisson(clean * scale * exposures[:, None, None])
    return Scan(
        patterns=patterns.astype(np.uint32 if patterns.max() >= 2**16 else np.uint16),
        bad=np.zeros((N, N), bool),
        x=x - (EDGE_PX - 1) / 2,
        y=y - (EDGE_PX - 1) / 2,
        probe=(probe * np.sqrt(scale)).astype(np.complex64),
        truth=truth,
    )


def diffraction_intensity_of(
    object_: NDArray[Any], probe: NDArray[Any], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Noise-free patterns at positions in pixels of the object, (M, N, N)."""
    return diffraction_intensity(extract_patches(object_, x, y, N), probe)
