"""A product on the pixels that belong to patterns of the size that is set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.cropping import PatternWindow
from ..data.examination import ExaminationConfig
from .product_geometry import require_geometry

if TYPE_CHECKING:
    from ptychodus.api.product import Product
    from ptychodus.api.reconstruct import ReconstructInput


def product_for(parameters: ReconstructInput, config: ExaminationConfig) -> Product:
    """The product of a :class:`~ptychodus.api.reconstruct.ReconstructInput`, as its patterns will be used.

    Where they are cropped or padded, and the product is for whole ones, its probe and object are put on the
    pixels that belong to the size that is set, around the same middle; positions are metres, and stay. A
    product whose probe has that size already is returned as it is, and so is any other.

    Raises
    ------
    ValueError
        As :func:`.require_geometry`: if it has no object or probe, or a number of its geometry is none.
    """
    product = parameters.product
    require_geometry(product)
    shape = np.shape(parameters.diffraction_patterns)
    if len(shape) != 3:
        return product
    window = PatternWindow.asked_for(shape, config)
    probes, object_ = product.probes, product.object_
    if window is None or (probes.height_px, probes.width_px) != window.shape:
        return product
    # imported here: the application has them, and a worker that reads no product does without
    from ptychodus.api.geometry import PixelGeometry
    from ptychodus.api.object import Object
    from ptychodus.api.probe import ProbeSequence
    from ptychodus.api.product import Product

    def resized(pixel: Any) -> PixelGeometry:
        down, across = window.scales
        return PixelGeometry(width_m=pixel.width_m / across, height_m=pixel.height_m / down)

    layers = [window.object(np.asarray(object_.get_layer(k))) for k in range(object_.num_layers)]
    object_ = Object(
        array=np.stack(layers),
        pixel_geometry=resized(object_.get_pixel_geometry()),
        center=object_.get_center(),
        layer_spacing_m=object_.layer_spacing_m,
    )
    return Product(
        metadata=product.metadata,
        probe_positions=product.probe_positions,
        probes=ProbeSequence(
            array=window.probe(np.asarray(probes.get_array())),
            opr_weights=probes.get_opr_weights_or_none(),
            pixel_geometry=resized(probes.get_pixel_geometry()),
        ),
        object_=object_,
        losses=product.losses,
    )
