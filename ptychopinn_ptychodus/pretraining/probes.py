"""Probes to learn from, of many widths, foci, aberrations and modes, and what is wrong about known ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.probe import orthogonal_modes, probe_width, with_modes
from ..data.simulation import make_probe

_SMALLEST_WIDTH, _LARGEST_WIDTH = 0.2, 0.7
"""Limits of the width of a made probe, as a part of N."""

_TRIES = 50

_NEXT_MODE = 0.3
"""Power of a mode beside that of the one before, about: a made beam of three modes has 70 % in the first."""

MOST_DEFOCUS = 2.0
"""At the rim of the pupil, rad, by which a rough probe is out of focus at most."""

MOST_STRETCH = 0.1
"""Part of its width by which a rough probe is too wide or too narrow at most."""

_WRONG = 0.7
"""How often each of the errors is made of a probe that has errors."""


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


def partly_coherent(
    probe: NDArray[np.complex64], most: int, rng: np.random.Generator
) -> NDArray[np.complex64]:
    """A probe of one mode as that of a beam with up to ``most`` orthogonal ones, (modes, N, N) complex64.

    How many there are, and what power they have, is random; the sum of it stays.
    """
    count = int(rng.integers(1, most + 1))
    if count == 1:
        return probe
    modes = orthogonal_modes(with_modes(probe, count)).astype(np.complex128)
    powers = (np.abs(modes) ** 2).sum((1, 2))
    wanted = _NEXT_MODE ** np.arange(count) * np.append(1.0, rng.uniform(0.2, 1.2, count - 1))
    wanted *= powers.sum() / wanted.sum()
    return np.asarray(modes * np.sqrt(wanted / powers)[:, None, None], np.complex64)


def rough_probe(probe: NDArray[np.complex64], rng: np.random.Generator) -> NDArray[np.complex64]:
    """A probe as somebody might know it: without its weaker modes, out of focus, of another width.

    Each of the errors is made or not, and of a random size. There is none of the power: that of a probe is
    always taken from the patterns.

    Parameters
    ----------
    probe
        The true one, (modes, N, N) complex64, not zero everywhere.
    rng
        Source of what is random.

    Returns
    -------
    ndarray
        (modes or 1, N, N) complex64, of the same power.
    """
    lacks_modes, is_out_of_focus, is_stretched = rng.random(3) < _WRONG
    defocus = rng.uniform(-MOST_DEFOCUS, MOST_DEFOCUS)
    stretch = rng.uniform(1 - MOST_STRETCH, 1 + MOST_STRETCH)
    rough = probe[:1] if lacks_modes and probe[0].any() else probe
    if is_out_of_focus:
        rough = out_of_focus(rough, defocus)
    if is_stretched:
        rough = stretched(rough, stretch)
    power, own = (float((np.abs(p.astype(np.complex128)) ** 2).sum()) for p in (probe, rough))
    return np.asarray(rough * math.sqrt(power / own), np.complex64)


def out_of_focus(probe: NDArray[np.complex64], phase: float) -> NDArray[np.complex64]:
    """A probe, (modes, N, N), with so much defocus at the rim of its pupil, rad."""
    spectrum, frequency = np.fft.fft2(probe), np.fft.fftfreq(probe.shape[-1])
    r2 = frequency[:, None] ** 2 + frequency**2
    power = (np.abs(spectrum) ** 2).sum(0)
    rim = 2.0 * float((r2 * power).sum() / power.sum())
    return np.asarray(np.fft.ifft2(spectrum * np.exp(1j * phase * r2 / rim)), np.complex64)


def stretched(probe: NDArray[np.complex64], factor: float) -> NDArray[np.complex64]:
    """A probe, (modes, N, N), that is so many times as wide."""
    middle = (probe.shape[-1] - 1) / 2
    modes = [
        ndimage.affine_transform(mode, np.full(2, 1 / factor), middle * (1 - 1 / factor)) for mode in probe
    ]
    return np.asarray(modes, np.complex64)


def _at_border(probe: NDArray[np.complex64]) -> float:
    """Part of the power within N/16 of the border."""
    intensity = (np.abs(probe) ** 2).sum(0)
    edge = max(1, len(intensity) // 16)
    return 1 - float(intensity[edge:-edge, edge:-edge].sum() / intensity.sum())
