"""How much the patterns of a scan tell of an object's parts, by spatial frequency.

A real and an imaginary change of an object show differently: the phase at scales beyond the probe's size
shows by its differences under the probe alone, which are the smaller the larger the scale is. How much it
shows depends on the probe's shape and on the counts. Here that is measured: the object is changed in a band
of frequencies, and the change of the gradient along it is the curvature.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .arrays import Array, Arrays
from .iterate import Iterate
from .model import ScanModel

_PATTERNS = 64
"""As many tell: a band's change is random, and has many periods under most probes."""
_BANDS = 9
_WIDTH = 1.4  # from a band's middle to either of its ends, a factor
_CHANGE = 0.01
"""Root mean square of the change: small beside 1, large beside what single precision makes of gradients."""
_LIT = 0.1  # of the strongest light
_SLOW = 2.5
"""Periods on a pattern's width: beyond it, factors are not slow, and are taken for sums."""


@dataclass(frozen=True)
class Curvature:
    """Second derivative of the negative logarithm of the likelihood by the object, where the light is usual.

    Attributes
    ----------
    frequencies
        (F,) cycles per pixel, ascending.
    of_parts
        (2, F), of the real and of the imaginary part, 0 or more.
    of_factor
        (2, F), of the logarithm of a slow factor of the object, its real part and its phase, 0 or more. The
        details take part in it, which makes the two differ where an object is strong.
    """

    frequencies: NDArray[np.float64]
    of_parts: NDArray[np.float64]
    of_factor: NDArray[np.float64]


def object_curvature(
    model: ScanModel, arrays: Arrays, iterate: Iterate, light: Array, turn: complex, per_photon: float = 1.0
) -> Curvature:
    """Measure the curvature around an estimate.

    Parameters
    ----------
    model
        The scan, by its likelihood.
    arrays
        The library to work with.
    iterate
        The estimate.
    light
        (H, W) illumination of the canvas by the whole scan.
    turn
        What the object is multiplied by for parts whose mean has phase 0, of modulus 1.
    per_photon
        Counts of a photon.
    """
    rng = np.random.default_rng(0)
    count = len(iterate.positions)
    sample = np.sort(rng.choice(count, min(count, _PATTERNS), replace=False))

    def gradient(canvas: Array) -> NDArray[np.complexfloating]:
        tried = replace(iterate, canvas=canvas)
        found = model.gradients(tried, sample, probe=False, positions=False)
        return np.asarray(arrays.get(found.canvas))

    of_scan, of_sample = arrays.get(light), arrays.get(model.illumination(iterate, sample))
    usual = float(np.median(of_scan[of_scan > _LIT * of_scan.max()]))
    height, width = iterate.canvas.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    middles = np.geomspace(1.0 / max(height, width), 0.5, _BANDS)
    here = gradient(iterate.canvas)
    curvature = np.zeros((2, 2, _BANDS))
    ways = (turn.conjugate(), arrays.get(iterate.canvas))
    for band, middle in enumerate(middles):
        inside = (frequency >= middle / _WIDTH) & (frequency <= middle * _WIDTH) & (frequency > 0)
        field = scipy.fft.ifft2(scipy.fft.fft2(rng.normal(size=(height, width))) * inside).real
        field *= _CHANGE / field.std()
        lit = float((of_sample * field**2).sum())
        for (way, start), (part, factor) in itertools.product(enumerate(ways), enumerate((1.0, 1j))):
            if way and middle > _SLOW / iterate.probe.shape[-1]:
                curvature[way, part, band] = curvature[0, part, band]
                continue
            change = (field * factor * start).astype(np.complex64)
            there = gradient(iterate.canvas + arrays.put(change))
            # errors are half of what the logarithm lacks, and their gradient is that by the conjugate
            gained = 4.0 * float(np.vdot(change, there - here).real)
            curvature[way, part, band] = usual * gained / lit
    return Curvature(middles, *(np.maximum(curvature, 0.0) / per_photon))
