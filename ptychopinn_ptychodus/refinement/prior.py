"""What an object is held by where the counts say little: its own power at each spatial frequency.

Real and imaginary part of the object (its mean at phase 0) are each taken for a Gaussian random field whose
power depends on the length of the spatial frequency alone. That power is learnt from the estimate itself,
less what the noise of the counts makes of it (empirical Bayes; the update is MacKay's, Neural Comput. 4, 415,
1992). Frequencies that stand out of the noise are left alone, others shrink as a Wiener filter has it, and a
weak phase object does not get an amplitude of nothing but noise. The noise is what the model leaves of the
patterns, but no more than that of photons.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .arrays import LEAST, Array, Arrays
from .curvature import Curvature
from .noise import PHOTONS, noise_of_root
from .object_field import Known, ObjectField, coarse_shape, filtered

CAUTION = 2.0
"""Noise is taken for so much more than counts alone make: probe and positions are not known either."""

HASTE = 0.5
"""MacKay's update has 1 here, and takes dozens of epochs for what is all noise; 0 loses weak signals."""

_LEAST_POWER = 1e-6  # of the noise
_LIT = 0.1  # of the strongest light
_LEAST_KEPT = 1e-3
_USUAL_POWER, _FALLS = 0.05, -2.0
"""Variance of either part of an object of which nothing is known, and the exponent of its spectrum."""


class ObjectPrior:
    """Power of an object's parts by spatial frequency.

    Parameters
    ----------
    mean
        (N, N) mean pattern in counts, zero frequency at (N/2, N/2), zero on bad pixels.
    shape
        (H, W) of the canvas.
    arrays
        The library to work with.
    """

    def __init__(self, mean: NDArray[np.float64], shape: tuple[int, int], arrays: Arrays) -> None:
        self._mean = mean
        self._arrays = arrays
        frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
        rings = (frequency * min(shape) / 2).astype(np.intp)
        self._sizes = np.bincount(rings.ravel())
        self._frequency = np.bincount(rings.ravel(), frequency.ravel()) / np.maximum(self._sizes, 1)
        self._power: list[NDArray[np.float64]] = []
        self._half_rings = rings[:, : shape[1] // 2 + 1].astype(np.int32)  # of a real part's frequencies
        self._hold: Array | None = None
        self._spectrum: NDArray[np.complex128] | None = None  # of the mean, conjugated, once it is asked for

    def learn(self, canvas: NDArray[np.complex64], light: NDArray[np.float32], error: float) -> None:
        """Bring the powers up to date.

        Parameters
        ----------
        canvas, light
            (H, W) estimate, and its illumination by the whole scan in counts.
        error
            Mean error of a pattern, in counts.
        """
        noise = min(noise_of_root(self._mean, error), PHOTONS)
        dose = _usual(light)
        rest, window = self._centred(canvas, light)
        known = np.interp(self._frequency, *self._transfer(noise))
        # of each part; the modulus of the far field shows half of a change of the wave
        variance = 2.0 * CAUTION * noise / (dose * np.maximum(known, _LEAST_POWER))
        before = self._power
        self._variance = variance

        def learnt(number: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
            power = self._power_of(rest.imag if number else rest.real, window)
            if before:
                kept = before[number] / (before[number] + variance)
                power = power / np.maximum(kept, _LEAST_POWER) ** HASTE
            else:
                power = power - variance
            power = np.maximum(power, _LEAST_POWER * noise / dose)
            hold = (noise / dose / power).astype(np.float32)[self._half_rings]
            hold[0, 0] = 0.0  # the mean is free
            return power, hold

        both = self._arrays.of_both(learnt)
        self._power = [power for power, _ in both]
        self._hold = self._arrays.put(np.stack([hold for _, hold in both]))

    def begin_anew(self, canvas: NDArray[np.complex64], light: NDArray[np.float32]) -> None:
        """Forget the powers for those of any object, large scales stronger than fine ones.

        ``canvas`` and ``light`` are as :meth:`learn` takes them; of the canvas, the mean alone is learnt.

        A part that has been taken for noise once is held at zero, and its power is learnt from that. Where
        counts are few, that happens to objects that are there, since steps by batches do not bring them out.
        """
        frequency = np.maximum(self._frequency, self._frequency[self._frequency > 0].min())
        shape = frequency**_FALLS
        usual = _USUAL_POWER * shape / (float((shape * self._sizes).sum()) / self._sizes.sum())
        self._power = [usual.copy(), usual.copy()]
        self._variance = np.zeros_like(usual)  # nothing of the canvas is taken for noise
        self._centred(canvas, light)

    def learn_by(self, canvas: NDArray[np.complex64], light: NDArray[np.float32], known: Curvature) -> float:
        """Bring the powers up to date by the most probable object and what is known of it.

        Parameters
        ----------
        canvas, light
            As :meth:`learn` takes them; the canvas is the most probable one by the present powers.
        known
            How much the patterns tell of it.

        Returns
        -------
        float
            The power of all frequencies, over what it was.
        """
        rest, window = self._centred(canvas, light)
        before, self._power = self._power, []
        for part, old, of_part in zip((rest.real, rest.imag), before, known.of_parts, strict=True):
            told = old * np.interp(self._frequency, known.frequencies, of_part)
            kept = np.maximum(told / (1.0 + told), _LEAST_KEPT)
            self._power.append(np.maximum(self._power_of(part, window) / kept, _LEAST_POWER * _USUAL_POWER))
        sums = [float((np.sum(powers, axis=0) * self._sizes).sum()) for powers in (self._power, before)]
        return sums[0] / sums[1]

    def finest(self, known: Curvature) -> float:
        """The finest frequency, cycles per pixel, at which a part stands out of the noise; 0 if none does."""
        finest = 0.0
        for power, of_part in zip(self._power, known.of_parts, strict=True):
            out = power * np.interp(self._frequency, known.frequencies, of_part) > 1.0
            out &= self._sizes > 0
            out[0] = False  # the mean is free
            finest = max(finest, float(self._frequency[out].max(initial=0.0)))
        return finest

    def held(self, canvas: Array, step: float) -> Array:
        """The proximal step of the prior: a canvas after a gradient step of that length, a new array.

        ``step`` is the gradient step times the usual illumination.
        """
        if self._hold is None:
            return canvas
        arrays, turn, hold = self._arrays, self._turn, self._hold
        parts = arrays.zeros((2, *canvas.shape), hold)

        def part(rows: slice) -> None:
            turned = canvas[rows] * turn
            parts[0, rows], parts[1, rows] = turned.real, turned.imag

        arrays.in_rows(part, canvas.shape)
        parts = arrays.filtered(parts, 1.0 / (1.0 + step * hold))
        found = arrays.zeros(canvas.shape, canvas)

        def join(rows: slice) -> None:
            found[rows] = (parts[0, rows] + 1j * parts[1, rows]) * turn.conjugate()

        arrays.in_rows(join, canvas.shape)
        return found

    def field(self, canvas: NDArray[np.complex64], curvature: Curvature) -> ObjectField:
        """The canvas learnt from, in coordinates in which its posterior is about white."""
        rings = self._half_rings
        rest = (canvas - self._mean_object) * self._turn
        powers, shapes, parts = [], [], []
        for part, power, known in zip((rest.real, rest.imag), self._power, curvature.of_parts, strict=True):
            of_part = power[rings]
            of_part[0, 0] = max(of_part[0, 0], abs(self._mean_object) ** 2)  # the mean is free
            powers.append(of_part)
            shapes.append(np.interp(self._frequency, curvature.frequencies, known)[rings])
            kept = (power / (power + self._variance))[rings]
            parts.append(filtered(part, kept))
        known = Known(
            np.stack(powers), np.stack(shapes), self._known_of_factor(curvature, canvas.shape, self._power)
        )
        return ObjectField(self._mean_object, self._turn, known, np.stack(parts), self._arrays)

    def field_around(
        self,
        centre: NDArray[np.complex64],
        canvas: NDArray[np.complex64],
        curvature: Curvature,
        freedom: float,
    ) -> ObjectField:
        """As :meth:`field`, of an object that is held by another one, ``centre``, in the place of its mean.

        ``freedom`` is how far from it the object is expected, as a part of the variance that prior and
        patterns leave at each spatial frequency.
        """
        rest = (canvas - centre) * self._turn
        powers = [freedom * variance for variance in self._left(curvature)]
        shapes = [np.interp(self._frequency, curvature.frequencies, known) for known in curvature.of_parts]
        of_parts = np.stack([power[self._half_rings] for power in powers])
        of_parts[:, 0, 0] = abs(self._mean_object) ** 2  # the mean is free
        known = Known(
            of_parts,
            np.stack([shape[self._half_rings] for shape in shapes]),
            self._known_of_factor(curvature, canvas.shape, powers),
        )
        return ObjectField(centre, self._turn, known, np.stack((rest.real, rest.imag)), self._arrays)

    def spread(self, curvature: Curvature) -> NDArray[np.float64]:
        """What is uncertain in a pixel of either part, (2,): standard deviation where light is usual."""
        weights = self._sizes / self._sizes.sum()
        weights[0] = 0.0  # the mean
        return np.sqrt([float(weights @ variance) for variance in self._left(curvature)])

    def _left(self, curvature: Curvature) -> list[NDArray[np.float64]]:
        """The variance that prior and patterns leave of either part, by ring."""
        known = (np.interp(self._frequency, curvature.frequencies, part) for part in curvature.of_parts)
        return [
            1.0 / (1.0 / power + by_patterns) for power, by_patterns in zip(self._power, known, strict=True)
        ]

    def _known_of_factor(
        self, curvature: Curvature, shape: tuple[int, ...], powers: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """What is known of a slow factor, see :class:`.Known`: of periods longer than a pattern's width.

        ``powers`` are those of the parts by ring.
        """
        highest = 1.0 / len(self._mean)
        coarse = coarse_shape(shape, highest)
        rows, columns = (np.fft.fftfreq(few) * few / many for few, many in zip(coarse, shape, strict=True))
        frequency = np.hypot(rows[:, None], columns)
        both = []
        for power, known in zip(powers, curvature.of_factor, strict=True):
            # it falls as a power of the frequency
            by_patterns = np.exp(
                np.interp(
                    np.log(np.maximum(frequency, LEAST)),
                    np.log(curvature.frequencies),
                    np.log(np.maximum(known, LEAST)),
                )
            )
            by_prior = abs(self._mean_object) ** 2 / np.interp(frequency, self._frequency, power)
            both.append(np.where((frequency > 0) & (frequency <= highest), by_patterns + by_prior, np.inf))
        return np.stack(both)

    @property
    def mean(self) -> complex:
        """Of the canvas learnt from."""
        return self._mean_object

    @property
    def turn(self) -> complex:
        """What the canvas learnt from is multiplied by for a mean of phase 0, of modulus 1."""
        return self._turn

    def _centred(
        self, canvas: NDArray[np.complex64], light: NDArray[np.float32]
    ) -> tuple[NDArray[np.complexfloating], NDArray[np.floating]]:
        """The canvas less its mean, which is kept, at phase 0, where it is lit, and how far it is lit."""
        window = np.minimum(light / _usual(light), 1.0)
        self._mean_object = mean = complex((window * canvas).sum() / window.sum())
        self._turn = complex(np.exp(-1j * np.angle(mean)))
        return (canvas - mean) * self._turn * window, window

    def _power_of(self, part: NDArray[np.floating], window: NDArray[np.floating]) -> NDArray[np.float64]:
        """Power of a part that was multiplied by the window, by the length of the frequency."""
        half = scipy.fft.rfft2(part, norm="ortho")
        power = half.real**2 + half.imag**2
        last = part.shape[1] // 2 + part.shape[1] % 2
        power[:, 1:last] *= 2.0  # for the opposite frequency, which is not there
        sums = np.bincount(self._half_rings.ravel(), power.ravel(), minlength=len(self._sizes))
        return sums / np.maximum(self._sizes, 1) / float(np.mean(window**2))

    def _transfer(self, noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Frequencies, cycles per pixel, and what part of the light scattered by so much meets light.

        In the dark a wave shows by its square only, which is nothing for a weak one.
        """
        size = len(self._mean)
        seen = self._mean / (self._mean + 4.0 * noise)
        if self._spectrum is None:
            self._spectrum = np.conj(scipy.fft.fft2(self._mean / self._mean.sum()))
            y, x = np.indices(self._mean.shape) - size // 2
            self._distances = np.hypot(x, y).astype(np.intp).ravel()
        meeting = scipy.fft.fftshift(scipy.fft.ifft2(self._spectrum * scipy.fft.fft2(seen)).real)
        ring = self._distances
        sizes = np.bincount(ring)
        return (np.arange(len(sizes)) + 0.5) / size, np.bincount(ring, meeting.ravel()) / sizes


def _usual(light: NDArray[np.float32]) -> float:
    """The usual illumination where there is light."""
    return float(np.median(light[light > _LIT * light.max()]))
