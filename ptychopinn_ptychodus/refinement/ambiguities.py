"""What no pattern determines, and what is made of it: the object's phase and its linear ramp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def without_ramp(
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    light: NDArray[np.float32],
    touched: NDArray[np.float32],
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """The same exit waves from an object of mean phase 0 and no slope on the whole.

    A ramp exp(i q·r) on the object is one on the probe and, at each position, a constant phase, which no
    intensity shows. The slope is the phase of Σ w O*(r) O(r + 1), each axis: neighbours differ by little, so
    that a phase that wraps is no obstacle. w is the light on both, as far as it is below the median one.

    Parameters
    ----------
    canvas
        (H, W) complex64 object.
    probe
        (modes, N, N) complex64.
    light
        (H, W) float32 illumination of the canvas; where there is little, the phase is anything.
    touched
        (H, W) float32, 0 where the canvas is under no patch: there it stays.

    Returns
    -------
    tuple
        Copies of canvas and probe.
    """
    weight = np.minimum(light, np.median(light[light > 0.1 * light.max()]))
    across = np.sum(canvas[:, 1:] * canvas[:, :-1].conj() * np.minimum(weight[:, 1:], weight[:, :-1]))
    down = np.sum(canvas[1:] * canvas[:-1].conj() * np.minimum(weight[1:], weight[:-1]))
    slopes = (float(np.angle(down)), float(np.angle(across)))
    flat = _ramp(canvas.shape, slopes)  # in place from here on: it takes twice as much as the canvas
    np.conj(flat, out=flat)
    flat *= canvas
    mean = complex(np.einsum("ij,ij", weight, flat))
    if mean:
        flat *= np.conj(mean) / abs(mean)
    turned = canvas.astype(np.complex64)
    np.copyto(turned, flat, casting="same_kind", where=touched > 0)
    tilted = probe * _ramp(probe.shape[-2:], slopes)
    return turned, tilted.astype(np.complex64)


def _ramp(shape: tuple[int, ...], slopes: tuple[float, float]) -> NDArray[np.complex128]:
    rows, columns = (np.exp(1j * slope * np.arange(size)) for slope, size in zip(slopes, shape, strict=True))
    return np.asarray(rows[:, None] * columns)
