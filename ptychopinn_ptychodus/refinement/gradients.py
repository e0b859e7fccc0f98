"""What the forward model says of an estimate: how it agrees with patterns, and where it should go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Arrays
from .iterate import Iterate, Variation

_FAR = 0.25
"""Part of the good pixels, the farthest from the beam, by which a background is told."""


@dataclass(frozen=True)
class FarPixels:
    """What the pixels far from the beam say of a background; sums over patterns of weight 1, to be added up.

    Attributes
    ----------
    excess, certainty
        Σ (n/λ - 1) and Σ 1/λ: slope and Fisher information of the likelihood's logarithm by the background. 0
        where there is none.
    """

    excess: float = 0.0
    certainty: float = 0.0

    def __add__(self, other: FarPixels) -> FarPixels:
        return FarPixels(self.excess + other.excess, self.certainty + other.certainty)


@dataclass
class Agreement:
    """How an estimate agrees with patterns, over good pixels; (B,) float64 each.

    Attributes
    ----------
    errors
        As in :class:`Gradients`.
    counts, cross, modelled
        Σ n, Σ √(n λ), Σ λ.
    """

    errors: NDArray[np.float64]
    counts: NDArray[np.float64]
    cross: NDArray[np.float64]
    modelled: NDArray[np.float64]


@dataclass
class VariationGradients:
    """Gradients by what a probe varies by.

    Attributes
    ----------
    shapes
        (K, modes, N, N) complex ∂L/∂E_j*.
    power
        (K, N, N) real Σ_k e_k c_kj² |O_k|², which they are to be measured by.
    weights
        (B, K) float64 ∂L/∂c_kj / 2.
    curvature
        (B, K, K) float64 e_k Re Σ_m E_im* E_jm |O_k|²: what changing the weights changes.
    """

    shapes: Array
    power: Array
    weights: NDArray[np.float64]
    curvature: NDArray[np.float64]


@dataclass
class Gradients:
    """Gradients of one batch, and what they are to be measured by.

    With L the metric, ``canvas`` is ∂L/∂O* and ``probe`` ∂L/∂P* (half the steepest ascent; a step of 1 over
    the illumination solves for one unknown alone), ``positions`` ∂L/∂r / 2.

    Attributes
    ----------
    canvas, probe
        As :class:`Iterate`; ``probe`` is None unless asked for.
    object_power
        (N, N) real, ``Σ_k e_k |O_k|²``; None unless ``probe`` is there.
    positions, curvature
        (B, 2) float64; None unless asked for. The curvature is ``e Σ |P|² |∂O|²``: what moving the object
        changes. Moving the probe instead would change more, but move the exit wave as a whole, which no
        intensity shows.
    errors
        (B,) float64, the metric of each pattern, on the scale of Σ (√λ - √n)² where the two are close.
    modelled
        (B,) float64, Σ λ of each pattern over good pixels; None unless asked for.
    far
        What the pixels far from the beam say of a background; None unless asked for.
    variation
        See :class:`VariationGradients`; None unless the probe varies and its gradient is asked for.
    illumination
        As :meth:`ScanModel.illumination` has it; None unless asked for.
    """

    canvas: Array
    probe: Array | None
    object_power: Array | None
    positions: NDArray[np.float64] | None
    curvature: NDArray[np.float64] | None
    errors: NDArray[np.float64]
    modelled: NDArray[np.float64] | None
    far: FarPixels | None
    variation: VariationGradients | None
    illumination: Array | None


class VariationSums:
    """Sums of :class:`VariationGradients` over chunks of patterns, of what each adds by its own probe."""

    def __init__(self, arrays: Arrays, variation: Variation, spectra: Array) -> None:
        self._arrays = arrays
        self._weights = variation.weights
        self._spectra = spectra.reshape(len(spectra), -1)
        shapes = variation.shapes
        products = (arrays.xp.conj(shapes)[:, None] * shapes).real.sum(2)
        self._products = products.reshape(len(shapes) ** 2, -1)
        self._shapes, self._power = self._spectra * 0, self._products[: len(shapes)] * 0
        self._slopes: list[NDArray[Any]] = []
        self._curvatures: list[NDArray[Any]] = []
        self._shape = variation.shapes.shape

    @classmethod
    def of(cls, arrays: Arrays, iterate: Iterate, spectra: Array | None) -> VariationSums | None:
        """None for a probe that does not vary."""
        if iterate.variation is None or spectra is None:
            return None
        return cls(arrays, iterate.variation, spectra)

    def of_part(self, part: NDArray[np.int64], back: Array, brightness: Array) -> tuple[Array, ...]:
        """What patterns add, by ∂L/∂P* of each in Fourier space, (B, modes, N, N), and e_k |O_k|²."""
        arrays, xp = self._arrays, self._arrays.xp
        weights = self._weights[part].T
        back, brightness = back.reshape(len(part), -1), brightness.reshape(len(part), -1)
        shapes = arrays.put(weights.astype(np.complex64)) @ back
        light = arrays.put((weights**2).astype(np.float32)) @ brightness
        slopes = arrays.get((back @ xp.conj(self._spectra).T).real)
        curvature = arrays.get(brightness @ self._products.T)
        return shapes, light, slopes, curvature.reshape(len(part), len(weights), -1)

    def add(self, of_part: tuple[Array, ...]) -> None:
        """Add what :meth:`of_part` found."""
        shapes, light, slopes, curvature = of_part
        self._shapes += shapes
        self._power += light
        self._slopes.append(slopes)
        self._curvatures.append(curvature)

    def total(self) -> VariationGradients:
        """The sums."""
        return VariationGradients(
            shapes=self._arrays.ifft(self._shapes.reshape(self._shape)),
            power=self._power.reshape(len(self._power), *self._shape[-2:]),
            weights=np.concatenate(self._slopes).astype(np.float64),
            curvature=np.concatenate(self._curvatures).astype(np.float64),
        )


def far_pixels(good: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers, in a flat (N, N), of the quarter of the good pixels that is farthest from (N/2, N/2)."""
    y, x = np.indices(good.shape) - len(good) // 2
    distance = np.hypot(x, y)
    return np.flatnonzero(good & (distance >= np.quantile(distance[good], 1.0 - _FAR)))
