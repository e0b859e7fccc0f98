"""What a refinement works on: canvas, probe and positions, and how the probe and the light vary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Arrays


def chequerboard(size: int) -> NDArray[np.float32]:
    """(-1)^(row + column), (size, size)."""
    sign = 1.0 - 2.0 * (np.arange(size) % 2)
    board: NDArray[np.float32] = np.multiply.outer(sign, sign).astype(np.float32)
    return board


def frequencies(size: int) -> NDArray[np.float64]:
    """Angular frequencies of an axis, rad per pixel, zero at N/2.

    The Nyquist frequency counts as zero: a sub-pixel phase has no sign there.
    """
    values = 2.0 * np.pi * np.fft.fftshift(np.fft.fftfreq(size))
    values[0] = 0.0
    return np.asarray(values)


@dataclass
class Variation:
    """How a probe varies from pattern to pattern: in pattern k, mode m is P_m + Σ_j c_kj E_jm.

    Attributes
    ----------
    shapes
        (K, modes, N, N) complex E_j, each as :class:`Iterate` has a probe.
    weights
        (M, K) float64 c_kj; on the host.
    """

    shapes: Array
    weights: NDArray[np.float64]

    def copy(self, arrays: Arrays) -> Variation:
        """A copy that shares nothing."""
        return Variation(arrays.copy(self.shapes), self.weights.copy())


@dataclass
class Iterate:
    """The estimate that a refinement works on, in its own coordinates.

    :class:`~ptychopinn_ptychodus.data.estimate.Estimate` is what it starts from and what it leaves.

    Attributes
    ----------
    canvas
        (H, W) complex, the part of the object that patches may touch.
    probe
        (modes, N, N) complex, times the chequerboard, ``Σ_m |F{P_m · O}|²`` in counts.
    positions
        (M, 2) float64 [x, y], pixels of the canvas; on the host.
    variation
        Of the probe, whose mean ``probe`` is then; None: it is the same for all patterns.
    """

    canvas: Array
    probe: Array
    positions: NDArray[np.float64]
    variation: Variation | None = None

    def copy(self, arrays: Arrays) -> Iterate:
        """A copy that shares nothing."""
        variation = None if self.variation is None else self.variation.copy(arrays)
        return Iterate(arrays.copy(self.canvas), arrays.copy(self.probe), self.positions.copy(), variation)

    def scale(self, factor: float) -> None:
        """Multiply the probe, whatever it varies by included."""
        self.probe *= factor
        if self.variation is not None:
            self.variation.shapes *= factor


@dataclass(frozen=True)
class Light:
    """What the beam and the surroundings did, beside object, probe and positions.

    Attributes
    ----------
    intensities
        (M,) float64 of the beam, over what the scan says of each pattern; None: all 1.
    background
        Counts on each pixel of each pattern that come from no exit wave.
    """

    intensities: NDArray[np.float64] | None = None
    background: float = 0.0


def power(probe: Array) -> Array:
    """Σ_m |P_m|², (N, N) float32."""
    return modulus_squared(probe).sum(0)


def modulus_squared(values: Array) -> Array:
    """|values|², real."""
    modulus = abs(values)
    modulus *= modulus
    return modulus
