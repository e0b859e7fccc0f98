"""What a Ptychodus product says of its geometry, and whether it can be reconstructed here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.examination import Action, ExaminationConfig, Finding, Report
from ..data.examination.positions import examine_positions
from ..data.interpolation import require_centres_inside
from ..data.probe import probe_width
from .product_geometry import HC_EV_M, photon_energy_ev

if TYPE_CHECKING:
    from ptychodus.api.geometry import PixelGeometry
    from ptychodus.api.product import Product

SETTING = "PtychoPINNPluginExamination.Refuse"

_SAME_PIXEL = 0.01
"""Relative difference within which two pixel sizes of a product are the same."""

_IMPLIED_PIXEL = 0.05
"""Likewise for what follows from energy, distance and detector: these are often nominal values."""


def examine_product(
    product: Product,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    size: int,
    config: ExaminationConfig,
    detector_pixel: PixelGeometry | None = None,
) -> Report:
    """Examine the geometry of a product.

    Parameters
    ----------
    product
        With an object and a probe, and a geometry (:func:`.require_geometry`).
    x, y
        (M,) positions in pixels of its object.
    size
        N, edge of a pattern, pixels.
    config
        What the user has decided.
    detector_pixel
        Pixel of the patterns on the detector, where it is known.

    Raises
    ------
    ExaminationError
        If the product is refused; its report has all findings.
    """
    findings = [
        *_layers(product),
        *_near_field(product, config),
        *_pixel_sizes(product, size, config, detector_pixel),
    ]
    pixel = product.object_.get_pixel_geometry()
    pixel_m = (float(pixel.width_m), float(pixel.height_m))
    outside = _outside(product, x, y, pixel_m)
    findings += outside
    if not outside:
        width = probe_width(np.asarray(product.probes.get_array())[0])
        findings += examine_positions(x, y, width, size, config, pixel_m)
    report = Report(tuple(findings))
    report.require_accepted()
    return report


def _layers(product: Product) -> list[Finding]:
    layers = int(product.object_.num_layers)
    if layers == 1:
        return []
    return [
        Finding(
            "several-layers",
            "geometry",
            Action.REFUSED,
            f'The object of "{product.metadata.name}" has {layers} layers, and these reconstructors '
            "determine one.",
            "Build a single-layer object in the Object view.",
            values={"layers": layers},
        )
    ]


def _near_field(product: Product, config: ExaminationConfig) -> list[Finding]:
    # products of Ptychodus before 1.7 do not say, and were of the far field
    if getattr(product.metadata, "far_field", True):
        return []
    return [
        _refused(
            "near-field",
            f'The product "{product.metadata.name}" says that its patterns are not of the far field '
            "(far_field is False).",
            "These reconstructors take a pattern for the far field of probe times object. Use an algorithm "
            "that propagates to the near field; or, if the patterns are of the far field, say so in "
            "the product's metadata.",
            {"far_field": False},
            config,
        )
    ]


def _pixel_sizes(
    product: Product, size: int, config: ExaminationConfig, detector: PixelGeometry | None
) -> list[Finding]:
    """Object, probe and patterns must be sampled alike; pixels need not be square."""
    of_object = _edges(product.object_.get_pixel_geometry())
    of_probe = _edges(product.probes.get_pixel_geometry())
    if not _differ(of_object, of_probe, _SAME_PIXEL):
        of_probe = of_object
    if of_object != of_probe:
        return [
            _refused(
                "other-pixel-size",
                f"The object's pixels are {_in_nm(of_object)} and the probe's {_in_nm(of_probe)} (x × y).",
                "Both must be those of the patterns: build the object anew in the Object view, or the probe "
                "in the Probe view.",
                {"object_m": list(of_object), "probe_m": list(of_probe)},
                config,
            )
        ]
    implied = _implied(product, size, detector)
    if implied is None or not _differ(of_object, implied, _IMPLIED_PIXEL):
        return []
    metadata = product.metadata
    # not refused: energy and distance are often nominal, and do no harm to an image but to its scale bar
    return [
        Finding(
            "nominal-geometry",
            "geometry",
            Action.IGNORED,
            f"Object and probe have pixels of {_in_nm(of_object)} (x × y), but patterns of {size} × {size} "
            f"pixels at {metadata.detector_distance_m:g} m and {photon_energy_ev(metadata):g} eV imply "
            f"{_in_nm(implied)}.",
            "The pixels of the object are believed. If they are wrong, so are positions in pixels: "
            "correct the energy, the distance and the detector's pixel, or build object and probe anew.",
            values={"object_m": list(of_object), "implied_m": list(implied)},
        )
    ]


def _implied(product: Product, size: int, detector: PixelGeometry | None) -> tuple[float, float] | None:
    """Pixel of the object by λz/(N p), metres; None where something is not known."""
    metadata = product.metadata
    energy = photon_energy_ev(metadata)
    if detector is None or energy is None or not getattr(metadata, "far_field", True):
        return None
    edges = _edges(detector)
    scale = HC_EV_M / energy * float(metadata.detector_distance_m) / size
    return (scale / edges[0], scale / edges[1])


def _edges(pixel: Any) -> tuple[float, float]:
    return (float(pixel.width_m), float(pixel.height_m))


def _differ(one: tuple[float, float], other: tuple[float, float], tolerance: float) -> bool:
    """Whether two pixel sizes differ; one that is not known differs from none."""
    pairs = zip(one, other, strict=True)
    return any(min(a, b) > 0 and max(a, b) > min(a, b) * math.exp(tolerance) for a, b in pairs)


def _in_nm(pixel: tuple[float, float]) -> str:
    return f"{pixel[0] * 1e9:.4g} × {pixel[1] * 1e9:.4g} nm"


def _outside(
    product: Product, x: NDArray[np.float64], y: NDArray[np.float64], pixel_m: tuple[float, float]
) -> list[Finding]:
    """Positions outside the object, in pixels and in metres; nothing can be computed from them."""
    height, width = int(product.object_.height_px), int(product.object_.width_px)
    try:
        require_centres_inside(x, y, (height, width))
    except ValueError as error:
        geometry = product.object_.get_geometry()
        center_m = (float(geometry.center_x_m), float(geometry.center_y_m))
        span = (float(np.ptp(x)), float(np.ptp(y)))
        seen = (
            f"{str(error).split(';')[0]}. The positions span {span[0]:.4g} × {span[1]:.4g} pixels (x × y), "
            f"which is {span[0] * pixel_m[0]:.3g} × {span[1] * pixel_m[1]:.3g} m around "
            f"({_middle(x, width) * pixel_m[0] + center_m[0]:.3g}, "
            f"{_middle(y, height) * pixel_m[1] + center_m[1]:.3g}) m; the object's {width} × {height} pixels "
            f"are {width * pixel_m[0]:.3g} × {height * pixel_m[1]:.3g} m around ({center_m[0]:.3g}, "
            f"{center_m[1]:.3g}) m."
        )
        return [
            Finding(
                "positions-outside",
                "geometry",
                Action.REFUSED,
                seen,
                "Ptychodus' positions are in metres: check the unit of the file that they came from "
                "(micrometres or millimetres for metres?), or build the object anew, so that it covers "
                "the scan.",
                values={"span_px": list(span), "pixel_m": list(pixel_m), "shape": [height, width]},
            )
        ]
    return []


def _middle(positions: NDArray[np.float64], size: int) -> float:
    """Middle of the positions' span from the middle of the object, pixels."""
    return float(positions.min() + positions.max()) / 2 - (size - 1) / 2


def _refused(code: str, seen: str, remedy: str, values: dict[str, Any], config: ExaminationConfig) -> Finding:
    if config.refuse:
        return Finding(code, "geometry", Action.REFUSED, seen, remedy, SETTING, values)
    done = f"It is used all the same, and the result will be wrong if this is so. {remedy}"
    return Finding(code, "geometry", Action.IGNORED, seen, done, SETTING, values)
