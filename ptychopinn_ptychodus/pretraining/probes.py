"""Probes to learn from: given ones, or made ones of many widths, foci and aberrations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..data.probe import probe_width
from ..data.simulation import make_probe

_SMALLEST_WIDTH, _LARGEST_WIDTH = 0.2, 0.7
"""Limits of the width of a made probe, as a part of N."""

_TRIES = 50


def random_probe(size: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """A made probe, (1, size, size) complex64, ``Σ|P|² = 1``.

    Half of them are soft disks in the plane of the sample, out of focus; the others what a lens or a zone
    plate, some with a central stop, makes of a plane wave near its focus, with astigmatism and coma.
    """
    for _ in range(_TRIES):
        probe = _disk(size, rng) if rng.random() < 0.5 else _lens(size, rng)
        # one that reaches the border would come back on the other side
        if _SMALLEST_WIDTH * size <= probe_width(probe) <= _LARGEST_WIDTH * size and _at_border(probe) < 0.02:
            return probe
    return make_probe(size)


def _disk(size: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    return make_probe(size, diameter=rng.uniform(0.25, 0.7), defocus=rng.uniform(-12, 12))


def _lens(size: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    frequency = np.fft.fftfreq(size)
    fx, fy = frequency[None, :], frequency[:, None]
    aperture = rng.uniform(0.08, 0.3)  # cycles per pixel
    radius, angle = np.hypot(fx, fy) / aperture, np.arctan2(fy, fx)
    soft = 2 / (size * aperture)
    wave = 0.5 * (1 - np.tanh((radius - 1) / soft))
    if rng.random() < 0.5:
        wave = wave * 0.5 * (1 + np.tanh((radius - rng.uniform(0.2, 0.5)) / soft))
    # so far out of focus that the cone of light is as wide as asked for
    wanted = rng.uniform(_SMALLEST_WIDTH, _LARGEST_WIDTH) * size
    defocus = math.pi / 2 * aperture * wanted * rng.choice([-1, 1])
    phase = defocus * radius**2
    phase = phase + rng.normal(0, 0.6) * radius**2 * np.cos(2 * (angle - rng.uniform(0, math.pi)))
    phase = phase + rng.normal(0, 0.4) * radius**3 * np.cos(angle - rng.uniform(0, 2 * math.pi))
    probe = np.fft.fftshift(np.fft.ifft2(wave * np.exp(1j * phase)))[None]
    return np.asarray(probe / np.sqrt((np.abs(probe) ** 2).sum()), np.complex64)


def _at_border(probe: NDArray[np.complex64]) -> float:
    """Part of the power within N/16 of the border."""
    intensity = (np.abs(probe) ** 2).sum(0)
    edge = max(1, len(intensity) // 16)
    return 1 - float(intensity[edge:-edge, edge:-edge].sum() / intensity.sum())
