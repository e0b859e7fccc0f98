"""Probes moved by the sub-pixel rests of positions, in memory for as long as neither changes.

Moving the probe is one of the three Fourier transforms that the gradient of an object takes. Where an object
is fitted under one probe, at positions that stay, it is needed only once for each pattern.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Arrays

_ELEMENTS = 1 << 25
"""Complex numbers at most, 256 MiB: patterns beyond that move their probes each time."""


class HeldProbes:
    """Moved probes of one probe and one set of positions, each made when it is first asked for.

    Parameters
    ----------
    probe, positions
        As :class:`.iterate.Iterate` has them. They are known by what they are, not by their values: whoever
        has them held leaves both as they are.
    arrays
        The library that the probe is of.
    """

    def __init__(self, probe: Array, positions: NDArray[np.float64], arrays: Arrays) -> None:
        self._probe, self._positions = probe, positions
        self._made = np.zeros(min(len(positions), _ELEMENTS // int(np.prod(probe.shape))), np.bool_)
        self._moved = arrays.empty_like(probe, len(self._made))

    def are_of(self, probe: Array, positions: NDArray[np.float64]) -> bool:
        """Whether these are the very ones."""
        return probe is self._probe and positions is self._positions

    def of(self, part: NDArray[np.int64], make: Callable[[NDArray[np.int64]], Array]) -> Array:
        """Those of these patterns, (B, modes, N, N), by ``make`` where one is not there."""
        if part.max() >= len(self._made):
            return make(part)
        if not self._made[part].all():
            self._moved[part] = make(part)
            self._made[part] = True
        return self._moved[part]
