"""Starting points for the illumination."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXTRA_MODE_POWER = 0.04
"""Power of each added mode relative to the given ones: enough to learn from, too little to mislead."""


def with_modes(probe: NDArray[np.complex64], count: int) -> NDArray[np.complex64]:
    """``probe`` with further incoherent modes, for illumination that is only partly coherent.

    The added modes are the first one times x, y, xy, x², y², … (Hermite-like), made orthogonal to all
    before them. The total power stays as it was.

    Parameters
    ----------
    probe
        (modes, N, N) complex64.
    count
        Number of modes to return; as many as are there already, or more.

    Returns
    -------
    (count, N, N) complex64.

    Raises
    ------
    ValueError
        If ``count`` is smaller than the number of modes that the probe has.
    """
    modes, size, _ = probe.shape
    if count < modes:
        raise ValueError(
            f"{count} probe modes were asked for, but the probe has {modes}: ask for {modes} or more, or "
            "give a probe with fewer."
        )
    if count == modes:
        return probe
    axis = np.linspace(-1.0, 1.0, size)
    power = float((np.abs(probe) ** 2).sum())
    basis = [mode.astype(np.complex128).ravel() for mode in probe]
    order = 1
    while len(basis) < count:
        for power_y in range(min(order + 1, count - len(basis))):
            candidate = (
                (probe[0] * np.outer(axis**power_y, axis ** (order - power_y))).astype(complex).ravel()
            )
            for other in basis:
                candidate -= other * (np.vdot(other, candidate) / np.vdot(other, other))
            candidate *= np.sqrt(EXTRA_MODE_POWER * power / np.vdot(candidate, candidate).real)
            basis.append(candidate)
        order += 1
    stack = np.reshape(basis, (count, size, size))
    return np.asarray(stack * np.sqrt(power / (np.abs(stack) ** 2).sum()), np.complex64)
