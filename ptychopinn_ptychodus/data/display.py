"""Values of an object as pictures show them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def centred_phase(array: NDArray[np.complexfloating]) -> NDArray[np.floating]:
    """Phase with its mean at 0, so that no flat region lies on the jump at π."""
    mean = array.sum()
    turned: NDArray[np.floating] = np.angle(array * np.conj(mean / abs(mean)) if mean else array)
    return turned


def grey_levels(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """0 to 255 between the 1st and the 99th percentile, clipped."""
    low, high = np.percentile(image, (1.0, 99.0))
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image)
    levels: NDArray[np.uint8] = (255 * np.clip(scaled, 0.0, 1.0)).astype(np.uint8)
    return levels
