"""A scan of which only the middle of the patterns is looked at: the same field of view, in larger pixels.

Most of a pattern's light is near the zero frequency. What a short trial is to tell, a wrong probe or
misplaced positions, shows there; and with half of the rows and columns it costs a fifth.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from ..data.large_arrays import each
from ..data.raw import RawData
from .arrays import Array, Arrays
from .noise import PHOTONS

BEYOND = 0.5
"""Light beyond the middle, over what noise leaves in it, at most: larger pixels fold it in as an error."""
_T = TypeVar("_T", bound=np.generic)
_SOME = 64  # patterns by which that is told


class CoarseScan:
    """The middle of a scan's patterns, and what goes with it.

    Parameters
    ----------
    raw
        The scan, of N × N pixels. Its patterns are shared.
    arrays
        The library that probes are of.
    per_photon
        Counts of one photon, see :func:`.noise.photon_unit`.
    beyond
        See :data:`BEYOND`.
    whole
        Leave out nothing.

    Attributes
    ----------
    raw
        The scan of n × n pixels, N/2 <= n <= N: positions in its own, larger pixels, the probe likewise.
    finer
        N / n: how many pixels of the scan's object make one of the coarse one, along each axis.
    rows
        Those of the patterns' rows that are left, and the columns likewise.
    """

    def __init__(
        self, raw: RawData, arrays: Arrays, per_photon: float, *, beyond: float = BEYOND, whole: bool = False
    ) -> None:
        self._arrays = arrays
        size = raw.N if whole else _middle(raw, per_photon, beyond)
        first = raw.N // 2 - size // 2
        self.rows = slice(first, first + size)
        self.finer = raw.N / size
        # of the whole patterns, which the middle of them does not know
        _ = raw.incident_photons
        frequency = (np.arange(size) - size // 2) / raw.N
        # the first of the larger pixels has its centre farther in
        along = np.exp(1j * np.pi * frequency * (self.finer - 1.0))
        self._ramp = np.multiply.outer(along, along).astype(np.complex64)
        self.raw = raw
        if size < raw.N:
            self.raw = raw.select(slice(None))
            self.raw.diff3d = raw.diff3d[:, self.rows, self.rows]
            self.raw.bad_pixels = raw.bad_pixels[self.rows, self.rows]
            self.raw.xcoords, self.raw.ycoords = (self._place(x) for x in (raw.xcoords, raw.ycoords))
            spectrum = scipy.fft.fftshift(scipy.fft.fft2(raw.probeGuess, norm="ortho"), axes=(-2, -1))
            inner = scipy.fft.ifftshift(self.middle(spectrum) * self._ramp, axes=(-2, -1))
            self.raw.probeGuess = np.asarray(scipy.fft.ifft2(inner, norm="ortho"), np.complex64)

    def middle(self, values: NDArray[_T]) -> NDArray[_T]:
        """(…, n, n) of (…, N, N) values in the plane of the detector, zero frequency at (N/2, N/2)."""
        return values[..., self.rows, self.rows]

    def probe_of(self, spectrum: NDArray[np.complexfloating]) -> Array:
        """The probe, as :class:`.iterate.Iterate` has it, of the middle of its far field, (modes, n, n)."""
        return self._arrays.ifft(self._arrays.put(np.asarray(spectrum * self._ramp, np.complex64)))

    def probe(self, probe: Array) -> Array:
        """The same for a probe of the scan, (modes, N, N) as :class:`.iterate.Iterate` has it."""
        if self.finer == 1.0:
            return probe
        return self.probe_of(self.middle(self._arrays.get(self._arrays.fft(self._arrays.copy(probe)))))

    def object(self, image: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """An object of the scan, (H, W), in larger pixels that cover it."""
        if self.finer == 1.0:
            return image
        shape = self.shape(image.shape)
        if (image == image.flat[0]).all():
            return np.full(shape, image.flat[0])
        where = np.meshgrid(
            *(np.arange(n) * self.finer + (self.finer - 1.0) / 2.0 for n in shape), indexing="ij"
        )
        parts = (
            ndimage.map_coordinates(part, where, order=1, mode="nearest") for part in (image.real, image.imag)
        )
        real, imaginary = parts
        return np.asarray(real + 1j * imaginary, np.complex64)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(rows, columns) of an object in larger pixels that cover one of that shape."""
        rows, columns = (int(np.ceil(n / self.finer)) for n in shape)
        return rows, columns

    def _place(self, where: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates in larger pixels; both begin at the same edge."""
        return (where + 0.5) / self.finer - 0.5


def _middle(raw: RawData, per_photon: float, beyond: float) -> int:
    """The least even number of rows and columns that is enough, and of which a Fourier transform is quick."""
    some = np.unique(np.linspace(0, raw.n_patterns - 1, _SOME).astype(np.int64))
    light = np.zeros((raw.N, raw.N))
    for pattern in each(raw.diff3d, some):
        light += np.square(pattern, dtype=np.float64)
    light *= ~raw.bad_pixels / len(some)
    noise = np.minimum(light, PHOTONS * per_photon)
    y, x = np.indices(light.shape) - raw.N // 2
    # pixel -n/2 is in the middle of n, and n/2 is not
    needs = 2 * np.maximum(np.maximum(-y, -x), np.maximum(y, x) + 1)
    light_within, noise_within = (
        np.cumsum(np.bincount(needs.ravel(), values.ravel())) for values in (light, noise)
    )
    for size in range(raw.N // 2, raw.N, 2):
        is_quick = scipy.fft.next_fast_len(size, real=True) == size
        if is_quick and light_within[-1] - light_within[size] <= beyond * noise_within[size]:
            return size
    return raw.N
