"""What grouping, stitching and simulation share: separable kernels, patch cutting, convolution.

Convention: pixel centres lie at integers, and pixel ``k`` of a patch of N pixels centred on ``r`` is the
object coordinate ``r - (N - 1)/2 + k``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

Kernel = tuple[int, NDArray[np.float64]]

# patches handled at a time: large enough to hide Python's overhead, small enough to stay near the cache
CHUNK = 64


def convolved(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolution of two images, in full.

    It is ``scipy.signal.fftconvolve``. That package imports scipy.stats, which takes longer than everything
    else that a worker imports for a scan.

    Parameters
    ----------
    one, other
        (H, W) and (h, w), real.

    Returns
    -------
    ndarray
        (H + h - 1, W + w - 1) float64.
    """
    height, width = (a + b - 1 for a, b in zip(one.shape, other.shape, strict=True))
    padded = [fft.next_fast_len(length, real=True) for length in (height, width)]
    both = fft.rfft2(one, padded)
    both *= fft.rfft2(other, padded)  # in place, since images may be large
    found: NDArray[np.float64] = fft.irfft2(both, padded, overwrite_x=True)[:height, :width]
    return found


def linear_kernel(fraction: NDArray[np.float64]) -> Kernel:
    """Bilinear weights of the pixels around a point that lies ``fraction`` past one of them.

    Returns
    -------
    tuple
        Offset of the first tap, and the weights, (2, K).
    """
    return 0, np.stack([1.0 - fraction, fraction])


def cubic_kernel(fraction: NDArray[np.float64]) -> Kernel:
    """Cubic B-spline weights (M. Unser, IEEE Signal Process. Mag. 16(6), 22, 1999, eq. 4).

    They act on spline coefficients (or need the inverse filter afterwards), not on pixel values.

    Returns
    -------
    tuple
        Offset of the first tap, and the weights, (4, K).
    """
    f, g = fraction, 1.0 - fraction
    near = 2.0 / 3.0 - f**2 + f**3 / 2.0
    far = 2.0 / 3.0 - g**2 + g**3 / 2.0
    return -1, np.stack([g**3 / 6.0, near, far, f**3 / 6.0])


def patch_corners(centres: NDArray[np.float64], n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Integer part and fraction of the object coordinate of patch pixel 0, one axis."""
    first = np.asarray(centres, dtype=np.float64) - (n - 1) / 2.0
    whole = np.floor(first)
    return whole.astype(np.int64), first - whole


def require_centres_inside(x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]) -> None:
    """Refuse positions that are not on the pixel grid of an array.

    Raises
    ------
    ValueError
        Naming how many centres lie outside ``shape`` (rows, columns), and the first of them.
    """
    height, width = shape
    # written so that NaN counts as outside
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if not inside.all():
        first = int(np.flatnonzero(~inside)[0])
        raise ValueError(
            f"{np.count_nonzero(~inside)} of {inside.size} positions are outside the object array of "
            f"{height} × {width} pixels; the first is number {first} at x = {x[first]:g}, y = {y[first]:g}. "
            "Give xcoords (columns) and ycoords (rows) in pixels of that array, or enlarge the object."
        )


class PatchCutter:
    """Cuts square patches centred on sub-pixel positions out of one object.

    Parameters
    ----------
    image
        (H, W) complex object.
    n
        Edge of a patch, pixels.
    order
        1: bilinear; 3: cubic spline.
    outside
        Value of the object beyond its array; 1 is empty space.
    """

    def __init__(self, image: ArrayLike, n: int, *, order: int = 1, outside: complex = 1.0) -> None:
        values = np.asarray(image)
        self.shape = (values.shape[0], values.shape[1])
        self.n = n
        self._margin = n // 2 + 3
        self._kernel = {1: linear_kernel, 3: cubic_kernel}[order]
        padded = np.pad(values, self._margin, constant_values=outside)
        if order == 3:
            padded = ndimage.spline_filter(padded, order=3, output=np.complex128, mode="mirror")
        self._padded = padded.astype(np.complex64)

    def __call__(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.complex64]:
        """Patches (K, n, n) complex64 at the (K,) centres x (columns) and y (rows), in pixels of the object.

        Raises
        ------
        ValueError
            If a centre lies outside the object.
        """
        xs, ys = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
        require_centres_inside(xs, ys, self.shape)
        n = self.n
        column, fraction_x = patch_corners(xs, n)
        row, fraction_y = patch_corners(ys, n)
        first, weights_x = self._kernel(fraction_x)
        _, weights_y = self._kernel(fraction_y)
        origin, edge = self._margin + first, n + len(weights_x) - 1
        windows = np.lib.stride_tricks.sliding_window_view(self._padded, (edge, edge))
        patches = np.empty((xs.size, n, n), dtype=np.complex64)
        for start in range(0, xs.size, CHUNK):
            part = slice(start, start + CHUNK)
            block = _gather(windows[row[part] + origin, column[part] + origin], weights_y[:, part], n, axis=1)
            patches[part] = _gather(block, weights_x[:, part], n, axis=2)
        return patches


def _gather(
    block: NDArray[np.complex64], weights: NDArray[np.float64], n: int, axis: int
) -> NDArray[np.complex64]:
    w = weights.astype(np.float32)[:, :, None, None]
    pick = [slice(None)] * 3
    shape = list(block.shape)
    shape[axis] = n
    total = np.zeros(shape, dtype=np.complex64)
    for tap in range(len(w)):
        pick[axis] = slice(tap, tap + n)
        total += w[tap] * block[tuple(pick)]
    return total
