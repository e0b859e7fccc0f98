"""Wrong probes and positions for a refinement to mend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Probe = NDArray[np.complexfloating]


def defocused(probe: Probe, distance_m: float, pixel_m: float, wavelength_m: float) -> Probe:
    """The probe (..., N, N) so much further along the beam, by Fresnel's propagator."""
    squared = np.fft.fftfreq(probe.shape[-1], pixel_m) ** 2
    phase = np.pi * wavelength_m * distance_m * (squared[:, None] + squared)
    moved: Probe = np.fft.ifft2(np.fft.fft2(probe) * np.exp(-1j * phase))
    return moved


def magnified(probe: Probe, factor: float) -> Probe:
    """The probe (..., N, N) so much wider about its array's centre."""
    modes = probe.reshape(-1, *probe.shape[-2:])
    centre = (probe.shape[-1] - 1) / 2
    offset = centre - centre / factor

    def wider(part: NDArray[np.floating]) -> NDArray[np.floating]:
        out: NDArray[np.floating] = ndimage.affine_transform(part, [1 / factor] * 2, [offset] * 2)
        return out

    return np.stack([wider(mode.real) + 1j * wider(mode.imag) for mode in modes]).reshape(probe.shape)


def moved(positions: NDArray[np.float64], reach: float, seed: int = 0) -> NDArray[np.float64]:
    """Positions (M, 2) with an error even between ``-reach`` and ``reach`` on each axis."""
    return positions + np.random.default_rng(seed).uniform(-reach, reach, positions.shape)


def overlap(a: Probe, b: Probe) -> float:
    """|⟨a, b⟩| / (‖a‖ ‖b‖) of the first modes: 1 for probes that differ by a factor only."""
    first, second = (probe.reshape(-1, *probe.shape[-2:])[0] for probe in (a, b))
    return float(abs(np.vdot(first, second)) / (np.linalg.norm(first) * np.linalg.norm(second)))


def off_by(positions: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Root mean square error of an axis, pixels, after a shift of the whole scan is removed."""
    difference = positions - truth
    return float(np.sqrt(np.mean((difference - difference.mean(axis=0)) ** 2)))


PIXEL_M, WAVELENGTH_M = 29.352e-9, 1.409e-10  # of the simulated scan, 8.8 keV

ERRORS: dict[str, tuple[Callable[[Probe], Probe], float]] = {
    "nothing": (lambda probe: probe, 0.0),
    "probe: amplitude × 10": (lambda probe: 10 * probe, 0.0),
    "probe: 10 % too wide": (lambda probe: magnified(probe, 1.1), 0.0),
    "probe: 20 % too wide": (lambda probe: magnified(probe, 1.2), 0.0),
    "probe: 20 µm out of focus": (lambda probe: defocused(probe, 20e-6, PIXEL_M, WAVELENGTH_M), 0.0),
    "probe: 50 µm out of focus": (lambda probe: defocused(probe, 50e-6, PIXEL_M, WAVELENGTH_M), 0.0),
    "positions: ±0.5 px": (lambda probe: probe, 0.5),
    "positions: ±2 px": (lambda probe: probe, 2.0),
    "20 µm out of focus and ±0.5 px": (
        lambda probe: defocused(probe, 20e-6, PIXEL_M, WAVELENGTH_M),
        0.5,
    ),
}
"""What is wrong -> what becomes of the probe, and how far positions are off."""
