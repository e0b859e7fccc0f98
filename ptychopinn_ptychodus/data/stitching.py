"""Patches and their positions to one canvas: the only stitcher of this project.

A patch is shifted to its exact sub-pixel position by cubic B-spline interpolation, weighted and averaged:
``object = Σ_k T(r_k)[w · O_k] / Σ_k T(r_k)[w]``. Interpolation by splines is a local kernel followed by an
inverse filter; that filter is the same for every patch and commutes with shifts, so patches are accumulated
with the 4-tap kernel alone and the filter is applied once, to the canvas.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from .interpolation import convolved, cubic_kernel, patch_corners, require_centres_inside

logger = logging.getLogger(__name__)

MINIMUM_COVERAGE = 0.01
"""Pixels below this fraction of the median coverage of lit pixels are filled: they saw next to no light."""

_LIT = 0.05  # of the largest coverage
_CHUNK = 8  # patches and their intermediates then stay in the cache
_FILTER_REACH = 16  # the inverse spline filter decays as 0.27^distance: below 1e-9 here


@dataclass(frozen=True, eq=False)
class Canvas:
    """A stitched object.

    Attributes
    ----------
    object
        (H, W) complex64.
    coverage
        (H, W) float32, sum of the weights that fell on each pixel, in the weight's unit; not negative.
    origin
        (2,) float64, ``[x, y]`` of the first pixel in the pixels that positions are given in; 0 where the
        canvas has the same pixels.
    """

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))


def stitch(
    patches: NDArray[Any],
    x: ArrayLike,
    y: ArrayLike,
    shape: tuple[int, int],
    *,
    weight: ArrayLike | None = None,
    factors: NDArray[np.complex64] | None = None,
    fill: complex = 1.0 + 0.0j,
    accumulate: Accumulate | None = None,
) -> Canvas:
    """Average overlapping patches on a canvas.

    Parameters
    ----------
    patches
        (K, N, N) complex; may be memory-mapped, it is read in chunks.
    x, y
        (K,) exact positions of the patches' centres in pixels of the canvas: columns, rows.
    shape
        (H, W) of the canvas.
    weight
        (N, N) real, not negative: how much each pixel of a patch is worth, as a rule the probe's intensity
        ``Σ_m |P_m|²``. None weighs all pixels equally.
    factors
        (K,) complex, what to multiply each patch by, as from :func:`.synchronisation.synchronise_phases`;
        None leaves them as they are.
    fill
        Value of pixels whose coverage is below ``MINIMUM_COVERAGE`` times the median coverage of lit pixels
        (those above a twentieth of the largest).
    accumulate
        Another device's, with ``patches`` as it has them; None is numpy.

    Returns
    -------
    Canvas
        The object and its coverage. Parts of patches beyond the canvas are cropped, and a warning says how
        many patches were.

    Raises
    ------
    ValueError
        If shapes do not fit together, the weight is negative or zero everywhere, there are no patches, a
        patch holds NaN, or the centre of a patch is outside the canvas.
    """
    xs, ys = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    if patches.ndim != 3 or patches.shape[1] != patches.shape[2] or len(patches) == 0:
        raise ValueError(f"patches has the shape {patches.shape}: give at least one square patch, (K, N, N).")
    if not len(patches) == xs.size == ys.size:
        raise ValueError(f"{len(patches)} patches have {xs.size} x and {ys.size} y positions: give one each.")
    if factors is not None and factors.shape != xs.shape:
        raise ValueError(f"factors has the shape {factors.shape}: give one a patch, ({xs.size},).")
    require_centres_inside(xs, ys, shape)
    n = patches.shape[-1]
    w, unit = _normalised_weight(weight, n)
    _warn_of_cropping(xs, ys, shape, n)

    grid = Grid.of(xs, ys, shape, n)
    # in this order: the convolution takes several canvases, and the numerator is the largest one
    coverage = grid.filtered(_accumulate_weight(w, grid))
    numerator = grid.filtered((accumulate or _accumulate)(patches, factors, w, grid))
    if not np.isfinite(numerator).all():
        raise ValueError(
            "patches hold NaN or infinite values: the model's output cannot be stitched. Train it again, or "
            "choose another model."
        )

    threshold = MINIMUM_COVERAGE * np.median(coverage[coverage > _LIT * coverage.max()])
    covered = coverage > threshold
    canvas = np.full(shape, fill, dtype=np.complex64)
    np.divide(numerator, coverage, out=canvas, where=covered, casting="same_kind")
    return Canvas(canvas, (np.maximum(coverage, 0.0) * unit).astype(np.float32))


def coverage_of(weight: ArrayLike, x: ArrayLike, y: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Sum of the weights that patches at ``x``, ``y`` put on a canvas of ``shape``: ``Σ_k T(r_k)[w]``.

    Parameters and errors as for :func:`stitch`; (H, W) float64, not negative.
    """
    xs, ys = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    require_centres_inside(xs, ys, shape)
    n = np.shape(weight)[-1]
    w, unit = _normalised_weight(weight, n)
    grid = Grid.of(xs, ys, shape, n)
    coverage: NDArray[np.float64] = np.maximum(grid.filtered(_accumulate_weight(w, grid)), 0.0) * unit
    return coverage


@dataclass(frozen=True, eq=False)
class Grid:
    """Where patches land on a canvas that is padded so far that neither they nor the filter see its edge.

    Attributes
    ----------
    row, column
        (K,) corners of the spread patches, of N + 3 pixels each way.
    taps_y, taps_x
        (4, K) kernels that spread them.
    shape
        Of the padded canvas, which is larger by ``border`` pixels on every side.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    taps_y: NDArray[np.float64]
    taps_x: NDArray[np.float64]
    shape: tuple[int, int]
    border: int

    @classmethod
    def of(cls, x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int], n: int) -> Grid:
        """For patches of ``n`` pixels at ``x``, ``y`` on a canvas of ``shape``."""
        border = n // 2 + 2 + _FILTER_REACH
        column, fraction_x = patch_corners(x + border, n)
        row, fraction_y = patch_corners(y + border, n)
        first, taps_x = cubic_kernel(fraction_x)
        _, taps_y = cubic_kernel(fraction_y)
        padded = (shape[0] + 2 * border, shape[1] + 2 * border)
        return cls(row + first, column + first, taps_y, taps_x, padded, border)

    def filtered(self, canvas: NDArray[Any]) -> NDArray[Any]:
        """Apply the inverse spline filter, and take the padding off."""
        output = np.complex128 if np.iscomplexobj(canvas) else np.float64
        whole: NDArray[Any] = ndimage.spline_filter(canvas, order=3, output=output)
        return whole[self.border : -self.border, self.border : -self.border]


Accumulate = Callable[[Any, NDArray[np.complex64] | None, NDArray[np.float32], Grid], NDArray[np.complex64]]
"""Another device's way to ``Σ_k β(r_k)[w · f_k · O_k]`` with the spline kernel β and the factors f.

From patches (K, N, N), as that device has them; f (K,) or None; w (N, N); and a :class:`Grid`, all of numpy,
to a canvas of the grid's shape.
"""


def _normalised_weight(weight: ArrayLike | None, n: int) -> tuple[NDArray[np.float32], float]:
    """Weight with a maximum of 1, so that no unit of the probe can overflow float32, and that maximum."""
    if weight is None:
        return np.ones((n, n), dtype=np.float32), 1.0
    w = np.asarray(weight, dtype=np.float64)
    if w.shape != (n, n):
        raise ValueError(f"weight has the shape {w.shape} but patches are {n} × {n}: give one value a pixel.")
    unit = float(w.max())
    if not (np.isfinite(w).all() and w.min() >= 0.0 and unit > 0.0):
        raise ValueError("weight must be finite, not negative, and somewhere above 0.")
    return (w / unit).astype(np.float32), unit


def _warn_of_cropping(x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int], n: int) -> None:
    half = (n - 1) / 2.0
    over_x = np.maximum(half - x, x + half - (shape[1] - 1))
    over_y = np.maximum(half - y, y + half - (shape[0] - 1))
    # rounding of positions is no overlap worth a warning
    cropped = np.count_nonzero(np.maximum(over_x, over_y) > 1e-6)
    if cropped:
        logger.warning(
            "%d of %d patches reach beyond the canvas of %d × %d pixels and are cropped there.",
            cropped,
            x.size,
            *shape,
        )


def _accumulate(
    patches: NDArray[Any], factors: NDArray[Any] | None, weight: NDArray[np.float32], grid: Grid
) -> NDArray[np.complex64]:
    """``Σ_k β(r_k)[w · f_k · O_k]`` with the spline kernel β and the factors f."""
    n = patches.shape[-1]
    taps = len(grid.taps_x)
    edge = n + taps - 1
    # real and imaginary parts side by side: numpy multiplies complex by real as complex by complex otherwise
    canvas = np.zeros((grid.shape[0], 2 * grid.shape[1]), dtype=np.float32)
    weight_pairs = np.repeat(weight, 2, axis=1)
    across = np.empty((_CHUNK, n, 2 * edge), dtype=np.float32)
    spread = np.empty((_CHUNK, edge, 2 * edge), dtype=np.float32)
    term_x = np.empty((_CHUNK, n, 2 * n), dtype=np.float32)
    term_y = np.empty((_CHUNK, n, 2 * edge), dtype=np.float32)
    wx = grid.taps_x.astype(np.float32)[:, :, None, None]
    wy = grid.taps_y.astype(np.float32)[:, :, None, None]
    for start in range(0, len(patches), _CHUNK):
        part = slice(start, start + _CHUNK)
        block = patches[part] if factors is None else patches[part] * factors[part, None, None]
        pairs = np.ascontiguousarray(block, dtype=np.complex64).view(np.float32) * weight_pairs
        b = len(pairs)
        across[:b] = 0
        for t in range(taps):
            across[:b, :, 2 * t : 2 * (t + n)] += np.multiply(pairs, wx[t, part], out=term_x[:b])
        spread[:b] = 0
        for t in range(taps):
            spread[:b, t : t + n] += np.multiply(across[:b], wy[t, part], out=term_y[:b])
        for k, top, left in zip(range(b), grid.row[part], grid.column[part], strict=True):
            canvas[top : top + edge, 2 * left : 2 * (left + edge)] += spread[k]
    return canvas.view(np.complex64)


def _accumulate_weight(weight: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    """``Σ_k β(r_k)[w]``: all patches share one weight, so it is one convolution with the positions."""
    height, width = grid.shape
    steps = np.arange(len(grid.taps_x))[:, None]
    flat = (grid.row + steps)[:, None] * width + (grid.column + steps)[None, :]
    mass = grid.taps_y[:, None] * grid.taps_x[None, :]
    corners = np.bincount(flat.ravel(), mass.ravel(), minlength=height * width).reshape(height, width)
    spread = corners.astype(np.float64, copy=False)
    return convolved(spread, weight.astype(np.float64))[:height, :width]
