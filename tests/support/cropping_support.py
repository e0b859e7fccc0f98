"""What patterns of another size mean for a probe, worked out otherwise than the package does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def at_pixels(probe: NDArray[np.complex64], shape: tuple[int, int]) -> NDArray[np.complex64]:
    """A probe, (..., rows, columns), at the middles of other pixels in the same field, (..., *shape).

    Its Fourier series is summed term by term, as far as the far field of ``shape`` goes.
    """
    matrices = []
    for before, after in zip(probe.shape[-2:], shape, strict=True):
        orders = np.arange(before) - before // 2
        kept = orders[(orders >= -(after // 2)) & (orders < after - after // 2)]
        there = (np.arange(before) + 0.5) / before - 0.5
        here = (np.arange(after) + 0.5) / after - 0.5
        waves = np.exp(2j * np.pi * np.outer(here, kept)) @ np.exp(-2j * np.pi * np.outer(kept, there))
        matrices.append(waves / np.sqrt(before * after))
    found = np.einsum("ij,...jk,lk->...il", matrices[0], probe.astype(np.complex128), matrices[1])
    single: NDArray[np.complex64] = found.astype(np.complex64)
    return single
