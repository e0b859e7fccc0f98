"""Makes one object of the patches that a network gives: twins, one phase for all of them, then stitching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .stitching import Accumulate, Canvas, stitch
from .synchronisation import Overlaps, synchronise_groups, synchronise_phases
from .twins import Twin, choose_twins


@dataclass(frozen=True)
class PatchArithmetic:
    """The computations that visit every pixel of every patch, on another device than numpy's.

    Attributes
    ----------
    put
        Moves (K, N, N) complex64 patches from numpy to the device. What it returns has ``shape``, ``ndim``
        and a length, and is an argument of the other two.
    overlaps, accumulate
        See :data:`.synchronisation.Overlaps` and :data:`.stitching.Accumulate`.
    """

    put: Callable[[NDArray[np.complex64]], Any]
    overlaps: Overlaps
    accumulate: Accumulate


def assemble(
    patches: NDArray[Any],
    nn_indices: NDArray[np.int64],
    coords: NDArray[np.float64],
    shape: tuple[int, int],
    weight: ArrayLike,
    arithmetic: PatchArithmetic | None = None,
    twin: Twin | None = None,
) -> Canvas:
    """Give all patches one global phase, and stitch them; the patches themselves stay as they are.

    Of groups of one pattern, each patch or its twin is taken first, where the pattern leaves that open.

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
    arithmetic
        The computations of another device, as in :class:`.Prediction`; None stands for numpy.
    twin
        Of the probe; None: nothing is left open.

    Raises
    ------
    ValueError
        As :func:`.stitching.stitch`.
    """
    _, channels, size, _ = patches.shape
    flat: Any = patches.reshape(-1, size, size)
    x, y = coords[nn_indices.ravel()].T
    if channels == 1 and twin is not None and twin.is_open:
        flat = choose_twins(flat, x, y, weight, twin)
    overlaps, accumulate = None, None
    if arithmetic is not None:
        flat, overlaps, accumulate = arithmetic.put(flat), arithmetic.overlaps, arithmetic.accumulate
    if channels == 1:
        factors = synchronise_phases(flat, x, y, weight, overlaps)
    else:
        factors = np.repeat(synchronise_groups(flat, nn_indices, coords, weight, overlaps), channels)
    return stitch(flat, x, y, shape, weight=weight, factors=factors, accumulate=accumulate)
