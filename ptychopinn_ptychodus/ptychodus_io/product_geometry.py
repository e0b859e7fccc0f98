"""The numbers that a product's geometry is made of, and what is said of one that is none.

Ptychodus derives the object's pixel from the photon energy, the distance and the pixel of the detector, and
positions become pixels of the object by that pixel and the object's centre. Where one of them is no number,
or none that is possible, Ptychodus says no more than that there is no object, or nothing at all. Here it is
named, wherever a product comes in: as a file, or from the application.

The distance of the focus is not among them: in the far field, nothing follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptychodus.api.product import Product

HC_EV_M = 1.239841984e-6
"""Planck's constant times the speed of light, electronvolt metres: energy times wavelength."""


@dataclass(frozen=True)
class Quantity:
    """What a number stands for, with its unit, whether it has to be above 0, and where it is set right."""

    what: str
    is_positive: bool
    remedy: str

    def fault(self, value: Any) -> str:
        """What is wrong with a value, and the remedy, to follow its name; empty if nothing."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number) and (number > 0 or not self.is_positive):
            return ""
        return f"is {value}, which is no {self.what}. {self.remedy}"


_METADATA = "Set it in the metadata of the product, in the Products view"
_DISTANCE = Quantity("distance in metres", True, _METADATA)
_ENERGY = Quantity("photon energy in electronvolts", True, _METADATA)
_LENGTH = "length in metres"
_OBJECT_PIXEL = Quantity(_LENGTH, True, "Build the object anew in the Object view")
_OBJECT_CENTRE = Quantity("position in metres", False, _OBJECT_PIXEL.remedy)
_PROBE_PIXEL = Quantity(_LENGTH, True, "Build the probe anew in the Probe view")
_DETECTOR_PIXEL = Quantity(_LENGTH, True, "Set the detector's pixel size in the Diffraction view")

_EDGES = ("pixel_width_m", "pixel_height_m")

ENERGY_NAMES = ("photon_energy_eV", "probe_energy_eV")
"""What Ptychodus calls the energy of the photons: since 1.7, and before."""

DIFFRACTION_ATTRIBUTES: Mapping[str, Mapping[str, Quantity]] = {
    "patterns": {f"detector_{edge}": _DETECTOR_PIXEL for edge in _EDGES},
}
PRODUCT_ATTRIBUTES: Mapping[str, Mapping[str, Quantity]] = {
    "": {
        "detector_object_distance_m": _DISTANCE,
        **dict.fromkeys(ENERGY_NAMES, _ENERGY),
    },
    "object": {
        **dict.fromkeys(_EDGES, _OBJECT_PIXEL),
        **dict.fromkeys(("center_x_m", "center_y_m"), _OBJECT_CENTRE),
    },
    "probe": dict.fromkeys(_EDGES, _PROBE_PIXEL),
}
"""Attributes of Ptychodus' files by the dataset that has them; those of the file itself under ""."""


def attribute_faults(held: Mapping[str, Any], of: str, quantities: Mapping[str, Quantity]) -> Iterator[str]:
    """A sentence for each attribute that is there and cannot be what it stands for, with the remedy.

    Parameters
    ----------
    held
        The attributes of a dataset, or of the file.
    of
        Name of the dataset; "" for the file.
    quantities
        What they stand for, by name.
    """
    whose = f' of "{of}"' if of else ""
    for name, quantity in quantities.items():
        if name in held and (fault := quantity.fault(held[name])):
            yield f'The attribute "{name}"{whose} {fault}, and save the file again with Ptychodus.'


def photon_energy_ev(metadata: Any) -> float | None:
    """Photon energy of a product's metadata, electronvolts, of whichever Ptychodus; None if it has none."""
    for name in ENERGY_NAMES:
        if hasattr(metadata, name):
            return float(getattr(metadata, name))
    return None


def require_geometry(product: Product) -> None:
    """Raise ``ValueError`` unless the product has an object and a probe, and all that places them.

    Raises
    ------
    ValueError
        If the distance, the energy, or a pixel of object or probe is not finite and above 0, if the object's
        centre is not finite, or if there is no object or no probe. The message names the product and the
        first of these, with its value, and says what to do in Ptychodus.
    """
    name, metadata = f'The product "{product.metadata.name}"', product.metadata
    # first of all: without them, Ptychodus has no object
    for what, value, quantity in (
        ("detector distance", float(metadata.detector_distance_m), _DISTANCE),
        ("photon energy", photon_energy_ev(metadata), _ENERGY),
    ):
        if value is not None and (fault := quantity.fault(value)):
            raise ValueError(f"{name}: its {what} {fault}.")
    if product.object_.width_px == 0 or product.object_.height_px == 0:
        raise ValueError(
            f"{name} has no object yet: build one in the Object view (any initial object will do, it defines "
            "the pixel grid). If there is one, check the detector's pixel size, which it needs."
        )
    if product.probes.width_px == 0 or product.probes.height_px == 0:
        raise ValueError(f"{name} has no probe yet: build one in the Probe view.")
    object_pixel_m(product)
    geometry = product.object_.get_geometry()
    pixel = product.probes.get_pixel_geometry()
    for what, value, quantity in (
        ("object's centre, x,", geometry.center_x_m, _OBJECT_CENTRE),
        ("object's centre, y,", geometry.center_y_m, _OBJECT_CENTRE),
        ("probe's pixel width", pixel.width_m, _PROBE_PIXEL),
        ("probe's pixel height", pixel.height_m, _PROBE_PIXEL),
    ):
        if fault := quantity.fault(value):
            raise ValueError(f"{name}: its {what} {fault}.")


def object_pixel_m(product: Product) -> tuple[float, float]:
    """(x, y) edge of a pixel of the product's object, metres.

    Raises
    ------
    ValueError
        If it is not known, or no length: no figure in metres can be given then. The message names the
        product.
    """
    try:
        pixel = product.object_.get_pixel_geometry()
    except ValueError as exc:  # Ptychodus does not know it
        raise ValueError(
            f'The product "{product.metadata.name}" has no pixel size of its object: {_OBJECT_PIXEL.remedy}.'
        ) from exc
    for what, value in (("width", pixel.width_m), ("height", pixel.height_m)):
        if fault := _OBJECT_PIXEL.fault(value):
            raise ValueError(f'The product "{product.metadata.name}": its object\'s pixel {what} {fault}.')
    return (float(pixel.width_m), float(pixel.height_m))
