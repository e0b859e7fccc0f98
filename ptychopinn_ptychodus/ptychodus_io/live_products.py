"""What a live reconstruction writes: the product as it is, and a standard directory of its frames.

Products are copies of the one that the scan came with, with object, probe and positions replaced: whatever
else it holds, of whichever Ptychodus, stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..files import replacing
from .growing_files import opened
from .names import DIFFRACTION_FILE, PRODUCT_FILE
from .product_geometry import ENERGY_NAMES, HC_EV_M, PRODUCT_ATTRIBUTES, attribute_faults

SCAN_DIRECTORY = "scan"
"""In the output, for the frames of a scan whose own directory cannot be reconstructed as it is."""

_POSITIONS = ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m")
_PER_POSITION = (*_POSITIONS, "probe_photon_counts")


@dataclass(frozen=True)
class ProductTemplate:
    """The product of a scan that is being recorded: all that is known before its last position.

    Attributes
    ----------
    values
        Datasets by name, but for object, probe, positions and losses.
    attributes
        Of the file and of its datasets, by name; the file's under "".
    probe
        (modes, N, N) complex64.
    pixel_m, center_m
        (x, y) of the object.
    shape
        (H, W) of its canvas.
    """

    values: Mapping[str, Any]
    attributes: Mapping[str, Mapping[str, Any]]
    probe: NDArray[np.complex64]
    pixel_m: NDArray[np.float64]
    center_m: NDArray[np.float64]
    shape: tuple[int, int]

    @classmethod
    def read(cls, path: Path) -> ProductTemplate:
        """Read a product file, complete or not.

        Raises
        ------
        ValueError
            If it has no probe or no object's geometry, or a number that it follows from cannot be what it
            stands for (:mod:`.product_geometry`); the message names the file.
        """
        try:
            with opened(path) as file:
                probe, object_ = file["probe"], file["object"]
                modes = np.asarray(probe[()], np.complex64)
                attributes = {name: dict(file[name].attrs) for name in file}
                attributes[""] = dict(file.attrs)
                about = attributes["object"]
                pixel = [float(about[f"pixel_{edge}_m"]) for edge in ("width", "height")]
                center = [float(about[f"center_{axis}_m"]) for axis in "xy"]
                made = ("object", "probe", "loss_epochs", "loss_values", "opr_weights")
                values = {name: file[name][()] for name in file if name not in made}
                shape = object_.shape[-2:]
        except (OSError, KeyError, RuntimeError, ValueError) as exc:
            reason = str(exc).strip("'\"")
            raise ValueError(
                f'"{path}" cannot be read ({reason}): a live reconstruction needs a product with a probe and '
                "the object's pixel size, saved by Ptychodus before the scan begins."
            ) from exc
        for name, quantities in PRODUCT_ATTRIBUTES.items():
            for fault in attribute_faults(attributes.get(name, {}), name, quantities):
                raise ValueError(f'"{path}": {fault}')
        while modes.ndim > 3:
            modes = modes[0]
        modes = modes[None] if modes.ndim == 2 else modes
        return cls(
            values, attributes, modes, np.array(pixel), np.array(center), (int(shape[0]), int(shape[1]))
        )

    @property
    def _middle(self) -> NDArray[np.float64]:
        return (np.array(self.shape[::-1]) - 1) / 2

    def pixels(self, positions_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, 2) [x, y] in metres as pixels of the object's canvas."""
        return (positions_m - self.center_m) / self.pixel_m + self._middle

    def metres(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse of :meth:`pixels`."""
        return (pixels - self._middle) * self.pixel_m + self.center_m

    def write(
        self,
        path: Path,
        *,
        object_: NDArray[np.complexfloating],
        origin: tuple[float, float],
        probe: NDArray[np.complexfloating] | None,
        numbers: NDArray[np.int64],
        positions: NDArray[np.float64],
        comment: str = "",
    ) -> None:
        """Write a product, replaced atomically.

        Parameters
        ----------
        path
            Where.
        object_
            (H, W).
        origin
            ``[x, y]`` of its first pixel, pixels of this product's canvas.
        probe
            (modes, N, N); None: that of this product.
        numbers, positions
            Of the frames; (M,) and (M, 2) pixels of this product's canvas.
        comment
            Added to the product's.
        """
        middle = np.asarray(origin) + (np.array(object_.shape[::-1]) - 1) / 2
        center = self.metres(middle)
        places = self.metres(positions)
        values = {
            **self.values,
            "object": object_[None],
            "probe": (self.probe if probe is None else probe)[None],
        }
        values.update(zip(_POSITIONS, (numbers, places[:, 0], places[:, 1]), strict=True))
        photons = self._photon_counts(numbers)
        values.pop("probe_photon_counts", None)
        if photons is not None:
            values["probe_photon_counts"] = photons
        values.update({"loss_epochs": np.empty(0), "loss_values": np.empty(0)})
        with replacing_hdf5(path) as target:
            for name, value in values.items():
                target.create_dataset(name, data=value)
                target[name].attrs.update(self.attributes.get(name, {}))
            target["object"].attrs.update({"center_x_m": center[0], "center_y_m": center[1]})
            target.attrs.update(self.attributes[""])
            if comment:
                before = str(self.attributes[""].get("comments", ""))
                target.attrs["comments"] = "\n".join(filter(None, (before, comment)))

    def _photon_counts(self, numbers: NDArray[np.int64]) -> NDArray[Any] | None:
        """What the product says of the light at these frames, as far as it says so of all."""
        known = self.values.get("probe_photon_counts")
        indexes = self.values.get("probe_position_indexes")
        if known is None or indexes is None or len(known) != len(indexes):
            return None
        by_number = dict(zip(np.asarray(indexes, np.int64).tolist(), known, strict=True))
        return np.array([by_number.get(number, np.nan) for number in numbers.tolist()])

    def write_directory(
        self,
        directory: Path,
        *,
        numbers: NDArray[np.int64],
        patterns: NDArray[np.number],
        positions: NDArray[np.float64],
        bad_pixels: NDArray[np.bool_],
        comment: str = "",
    ) -> None:
        """Write the frames as a standard directory, with this product's probe and a flat object.

        Each file is replaced atomically, the product first.
        """
        directory.mkdir(parents=True, exist_ok=True)
        size = patterns.shape[-1]
        self.write_scan(
            directory / PRODUCT_FILE, numbers=numbers, positions=positions, size=size, comment=comment
        )
        with replacing_hdf5(directory / DIFFRACTION_FILE) as target:
            target.create_dataset("indexes", data=numbers)
            target.create_dataset("patterns", data=patterns, chunks=(1, size, size), compression="lzf")
            target.create_dataset("bad_pixels", data=bad_pixels)
            target["patterns"].attrs.update(self.detector_pixel(size))

    def write_scan(
        self,
        path: Path,
        *,
        numbers: NDArray[np.int64],
        positions: NDArray[np.float64],
        size: int,
        comment: str = "",
    ) -> None:
        """Write the product of a scan that is to be reconstructed, as :meth:`write`: its object is flat.

        Parameters
        ----------
        path, numbers, positions, comment
            See there.
        size
            N of its patterns, whose patches the object holds.
        """
        low = np.floor(positions.min(0)) - size // 2 - 1
        high = np.ceil(positions.max(0)) + size // 2 + 2
        corner, end = np.zeros(2), np.array(self.shape[::-1], np.float64)
        if (low < corner).any() or (high > end).any():  # the scan went beyond the canvas that was planned
            corner, end = np.minimum(low, corner), np.maximum(high, end)
        width, height = (end - corner).astype(int)
        self.write(
            path,
            object_=np.ones((height, width), np.complex64),
            origin=(float(corner[0]), float(corner[1])),
            probe=None,
            numbers=numbers,
            positions=positions,
            comment=comment,
        )

    def detector_pixel(self, size: int) -> dict[str, float]:
        """Attributes of patterns of N = ``size``: the pixel of the detector, metres."""
        about = self.attributes[""]
        energy = float(next((about[name] for name in ENERGY_NAMES if name in about), np.nan))
        distance = float(about.get("detector_object_distance_m", np.nan))
        pitch = HC_EV_M / energy * distance / (size * self.pixel_m)
        return {
            f"detector_pixel_{edge}_m": float(value)
            for edge, value in zip(("width", "height"), pitch, strict=True)
        }


@contextmanager
def replacing_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that takes the place of ``path`` once the block has ended well."""
    with replacing(path) as file, h5py.File(file.name, "w") as target:
        yield target
