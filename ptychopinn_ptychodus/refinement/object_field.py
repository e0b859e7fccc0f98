"""An object as numbers in which its posterior is about white, at any size of the object.

In numbers of variance 1 by the prior, those that the patterns determine well would have a curvature of many
thousands, and others of 1: methods that know gradients alone would take hundreds of steps. So each spatial
frequency of the object's parts is divided by the root of what prior and patterns know of it.

That is not enough for the phase at scales beyond the probe's size. Patterns hardly see it, if all of the
object takes part: a phase φ that changes slowly makes O exp(iφ) of O, the details included. A sum O + iφ
leaves the details as they are, which patterns see well, so that in sums alone the largest scales come last,
the later the larger they are. So the numbers of the object have others beside them, on a coarse grid: a slow
factor exp(a + iφ), again in units of what is known of it. What it adds to the object is taken at those
frequencies alone that patterns tell more of than the prior: details may not be there of which the prior is
sure that there are none. These numbers describe nothing that the first could not; they are ways to go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .arrays import Arrays

Real = NDArray[np.float32]
Complex = NDArray[np.complex64]
_LEAST_KNOWN = 1e-8  # of what is known of the frequency that is known best


@dataclass(frozen=True)
class Known:
    """What is known of an object's parts at each spatial frequency, for (H, W) pixels.

    Attributes
    ----------
    prior
        (2, H, W // 2 + 1) power of the parts.
    patterns
        (2, H, W // 2 + 1) their curvature by the patterns.
    factor
        (2, h, w), h and w odd: curvature of a slow factor's logarithm, real part and phase, by both, at the
        frequencies of a grid of so many points. Infinite where it is to stay 0.
    """

    prior: NDArray[np.float64]
    patterns: NDArray[np.float64]
    factor: NDArray[np.float64]


class ObjectField:
    """An object in coordinates, see the module.

    Parameters
    ----------
    mean
        Of the object by the prior: one number, or (H, W) pixels.
    turn
        What the object is multiplied by for a mean of phase 0, of modulus 1.
    known
        By which numbers are scaled, and the object is held.
    parts
        (2, H, W) float32 real and imaginary part of what it starts from, times ``turn``, less the mean.
    arrays
        Whose threads have a part each.

    Attributes
    ----------
    start
        (n,) float32, 2 H W numbers of the parts and 2 h w of the factor, which is 1.
    pixels
        H W.
    """

    def __init__(
        self, mean: complex | Complex, turn: complex, known: Known, parts: Real, arrays: Arrays
    ) -> None:
        self._mean, self._turn = mean, turn
        self._of_both = arrays.of_both
        self._precision = (1.0 / known.prior).astype(np.float32)
        both = self._precision + known.patterns
        self._spread = np.sqrt(1.0 / both).astype(np.float32)
        self._told = (known.patterns / both).astype(np.float32)
        least = _LEAST_KNOWN * known.factor[np.isfinite(known.factor)].max(initial=0.0)
        spread = 1.0 / np.sqrt(np.maximum(known.factor, max(least, np.finfo(np.float32).tiny)))
        self._factor_spread = spread.astype(np.float32)
        self._shape = parts.shape
        self.pixels = parts[0].size
        numbers = self._of_both(lambda part: filtered(parts[part], 1.0 / self._spread[part]))
        zeros = np.zeros(known.factor.size)
        self.start = np.concatenate([*(part.ravel() for part in numbers), zeros]).astype(np.float32)

    def canvas(self, numbers: NDArray[np.floating]) -> NDArray[np.complex64]:
        """The object that numbers (n,) stand for, (H, W)."""
        return self._sum(self._base(numbers), self._more(numbers))

    def penalty(self, numbers: NDArray[np.floating]) -> float:
        """The negative logarithm of the prior, but for a constant."""
        return self._held(self.canvas(numbers))[0]

    def cost(
        self, numbers: NDArray[np.floating], gradient: NDArray[np.complexfloating]
    ) -> tuple[float, NDArray[np.float32]]:
        """The penalty, and the slope of penalty and likelihood together, (n,).

        ``gradient`` is ∂L/∂Re O + i ∂L/∂Im O of the likelihood, (H, W).
        """
        base, more = self._base(numbers), self._more(numbers)
        penalty, slope = self._held(self._sum(base, more))
        slope += gradient
        told = self._by_parts(slope, self._told)
        slope += told * np.conj(more)
        more += 1.0
        more *= base
        told *= np.conj(more)
        del base, more
        slope *= self._turn
        slopes, of_told = (slope.real, slope.imag), (told.real, told.imag)

        def of_numbers(part: int) -> tuple[Real, Real]:
            return (
                filtered(slopes[part], self._spread[part]),
                _narrowed(of_told[part], self._factor_spread[part]),
            )

        pieces = zip(*self._of_both(of_numbers), strict=True)
        return penalty, np.concatenate([part.ravel() for both in pieces for part in both])

    def _base(self, numbers: NDArray[np.floating]) -> Complex:
        """The object that the numbers of the parts stand for alone, (H, W)."""
        canvas = np.empty(self._shape[1:], np.complex64)
        parts = numbers[: 2 * self.pixels].reshape(self._shape)
        canvas.real, canvas.imag = self._of_both(lambda part: filtered(parts[part], self._spread[part]))
        canvas *= self._turn.conjugate()
        canvas += self._mean
        return canvas

    def _more(self, numbers: NDArray[np.floating]) -> Complex:
        """The slow factor less 1, (H, W)."""
        factor = np.empty(self._shape[1:], np.complex64)
        grid = numbers[2 * self.pixels :].reshape(self._factor_spread.shape)
        factor.real, factor.imag = self._of_both(
            lambda part: _widened(grid[part], self._factor_spread[part], self._shape[1:])
        )
        return np.expm1(factor, out=factor)

    def _sum(self, base: Complex, more: Complex) -> Complex:
        return base + self._by_parts(base * more, self._told)

    def _by_parts(self, image: Complex, transfers: Real) -> Complex:
        """The two parts of an image, as the object's are meant, each multiplied in Fourier space."""
        turned = image * self._turn
        parts = (turned.real, turned.imag)
        turned.real, turned.imag = self._of_both(lambda part: filtered(parts[part], transfers[part]))
        turned *= self._turn.conjugate()
        return turned

    def _held(self, canvas: Complex) -> tuple[float, Complex]:
        """The penalty of an object, and its gradient, ∂/∂Re O + i ∂/∂Im O."""
        canvas = canvas - self._mean
        slope = self._by_parts(canvas, self._precision)
        # a sum in single precision would be wrong by more than the last steps gain
        products = (
            np.einsum("ij,ij->", one, other, dtype=np.float64)
            for one, other in ((canvas.real, slope.real), (canvas.imag, slope.imag))
        )
        return 0.5 * float(sum(products)), slope


def coarse_shape(shape: tuple[int, ...], highest: float) -> tuple[int, int]:
    """Points of a grid, odd, that holds all frequencies of an image up to ``highest`` cycles per pixel."""
    return 2 * int(shape[0] * highest) + 1, 2 * int(shape[1] * highest) + 1


def filtered(part: NDArray[np.floating], transfer: NDArray[np.floating]) -> Real:
    """A part, (H, W), multiplied in Fourier space by something real and even, (H, W // 2 + 1)."""
    spectrum = scipy.fft.rfft2(part)
    spectrum *= transfer
    return np.asarray(scipy.fft.irfft2(spectrum, s=part.shape, overwrite_x=True))


def _widened(grid: NDArray[np.floating], transfer: Real, shape: tuple[int, ...]) -> Real:
    """A part on a coarse grid, (h, w), filtered and put on one of ``shape``; keeps the sum of squares."""
    half = grid.shape[1] // 2 + 1
    spectrum = scipy.fft.rfft2(grid, norm="ortho") * transfer[:, :half]
    rows = _low_rows(len(grid), shape[0])
    wide = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    wide[rows, :half] = spectrum
    return np.asarray(scipy.fft.irfft2(wide, s=shape, norm="ortho", overwrite_x=True))


def _narrowed(part: Real, transfer: Real) -> Real:
    """The transpose of :func:`_widened`."""
    rows = _low_rows(len(transfer), len(part))
    half = transfer.shape[1] // 2 + 1
    spectrum = scipy.fft.rfft2(part, norm="ortho")[rows, :half] * transfer[:, :half]
    return np.asarray(scipy.fft.irfft2(spectrum, s=transfer.shape, norm="ortho"))


def _low_rows(few: int, many: int) -> NDArray[np.intp]:
    """Rows of a spectrum of ``many`` points at which one of ``few`` has its own."""
    return np.fft.fftfreq(few, 1.0 / few).round().astype(np.intp) % many
