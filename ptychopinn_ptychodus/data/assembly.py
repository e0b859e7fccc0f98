"""From a network's patches to one object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .stitching import Canvas, stitch
from .synchronisation import synchronise_groups, synchronise_phases


def assemble(
    patches: NDArray[Any],
    nn_indices: NDArray[np.int64],
    coords: NDArray[np.float64],
    shape: tuple[int, int],
    weight: ArrayLike,
) -> Canvas:
    """Give all patches one global phase, and stitch them; the patches themselves stay as they are.

    Parameters
    ----------
    patches
        (B, C, N, N) complex, each centred on its pattern's position.
    nn_indices
        (B, C) pattern of each patch.
    coords
        (M, 2) positions ``[x, y]`` of the patterns, pixels of the canvas.
    shape
        (H, W) of the canvas.
    weight
        (N, N) real illumination, ``Σ_m |P_m|²``.

    Raises
    ------
    ValueError
        As :func:`.stitching.stitch`.
    """
    _, channels, size, _ = patches.shape
    flat = patches.reshape(-1, size, size)
    x, y = coords[nn_indices.ravel()].T
    if channels == 1:
        factors = synchronise_phases(flat, x, y, weight)
    else:
        factors = np.repeat(synchronise_groups(patches, nn_indices, coords, weight), channels)
    return stitch(flat, x, y, shape, weight=weight, factors=factors)
