"""The forward model on the whole scan, and its gradients by hand.

Pattern k shows ``λ_k = e_k Σ_m |F{S(f_k) P_m · O[c_k]}|²``: the patch ``O[c_k]`` has its corner on whole
pixels, S moves the probe by the sub-pixel rest f_k with a phase ramp, as everywhere in this package, and e_k
is the exposure of the pattern over the mean of all. The reference implementation of all this is
:mod:`ptychopinn_ptychodus.data.simulation`.

The probe is kept times (-1)^(row + column): a chequerboard in real space is a shift by N/2 in Fourier space,
so that patterns with zero frequency at (N/2, N/2) need no ``fftshift``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.raw import RawData
from .arrays import Array, Arrays
from .gradients import Agreement, FarPixels, Gradients, VariationSums, far_pixels
from .iterate import Iterate, Light, frequencies, modulus_squared, power
from .moved_probes import HeldProbes

OUTLIER_RATIO = 3.0
"""Beyond √n = 3 √λ the Poisson gradient, which has no bound there, goes on like that of the amplitude."""

_TINY = 1e-6
"""What amplitudes are at least where they are divided by, relative to the patterns' root mean square."""

_SAME = 1e-6  # relative
_PATTERNS_LIT, _PARTS_LIT = 64, 8
"""Patterns whose light is added up in one thread at least, and parts of a scan at most."""


class ScanModel:
    """Patterns of one scan, and what an estimate of object, probe and positions makes of them.

    Parameters
    ----------
    raw
        The scan; its patterns are read in chunks and never copied as a whole.
    arrays
        The library to work with.
    metric
        Of the errors, and of the gradients as long as ``by_likelihood`` is left as it is: ``"amplitude"`` or
        ``"poisson"``.
    outlier_ratio
        √n/√λ from which on the likelihood's gradient has a bound. Infinite: it has none, and is that of the
        errors to the last digit.

    Attributes
    ----------
    by_likelihood
        Whether gradients are those of the Poisson likelihood.
    """

    def __init__(
        self, raw: RawData, arrays: Arrays, metric: str, outlier_ratio: float = OUTLIER_RATIO
    ) -> None:
        self._outlier_ratio = outlier_ratio
        self._patterns = raw.diff3d
        self._arrays = arrays
        self._poisson = self.by_likelihood = metric == "poisson"
        self._size = raw.N
        self._good = arrays.put((~raw.bad_pixels).astype(np.float32)) if raw.bad_pixels.any() else None
        self._recorded = raw.incident_photons / raw.photons_per_pattern
        self.light = Light()
        self._far = far_pixels(~raw.bad_pixels)
        self._held: HeldProbes | None = None
        self._tiny = _TINY * float(np.sqrt(raw.photons_per_pattern)) / raw.N
        self._omega = frequencies(raw.N)
        self._omega32 = arrays.put(self._omega.astype(np.float32))

    @property
    def light(self) -> Light:
        """What the beam and the surroundings did, by which patterns are modelled."""
        return self._light

    @light.setter
    def light(self, light: Light) -> None:
        self._light = light
        relative = self._recorded if light.intensities is None else self._recorded * light.intensities
        self._exposures = None if np.abs(relative - 1).max() < _SAME else relative.astype(np.float32)

    def hold(self, iterate: Iterate) -> None:
        """Remember moved probes of this very probe at these very positions, both of which stay the same."""
        if self._held is None or not self._held.are_of(iterate.probe, iterate.positions):
            self._held = HeldProbes(iterate.probe, iterate.positions, self._arrays)

    def corners(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Rows and columns of the patches' corners, and what is left of the positions, (B, 2) [x, y]."""
        first = positions - (self._size - 1) / 2.0
        whole = np.rint(first)
        corner = whole.astype(np.int64)
        return corner[:, 1], corner[:, 0], first - whole

    def illumination(self, iterate: Iterate, indices: NDArray[np.int64]) -> Array:
        """``Σ_k e_k Σ_m |P_m|²`` of these patterns on the canvas, to the nearest pixel; (H, W) float32."""
        light = power(iterate.probe)
        total = self._arrays.zeros(iterate.canvas.shape, light)

        def lit(part: NDArray[np.int64]) -> Array:
            own = self._arrays.zeros(iterate.canvas.shape, light)
            for some in self._chunks(iterate, part):
                rows, columns, _ = self.corners(iterate.positions[some])
                exposure = self._exposure(some)
                self._arrays.add(own, light if exposure is None else light * exposure, rows, columns)
            return own

        def take(own: Array) -> None:
            nonlocal total
            total += own

        # each part makes a canvas
        parts = max(1, min(len(indices) // _PATTERNS_LIT, _PARTS_LIT))
        self._arrays.each(lit, np.array_split(indices, parts), take)
        return total

    def touched(self, iterate: Iterate, indices: NDArray[np.int64]) -> Array:
        """How many of these patterns' patches hold a pixel of the canvas; (H, W) float32."""
        rows, columns, _ = self.corners(iterate.positions[indices])
        height, width = iterate.canvas.shape
        # sums over rows and columns fill the patches out
        steps = np.zeros((height + 1, width + 1), np.int32)
        ends = ((rows, rows + self._size), (columns, columns + self._size))
        for (first, y), (second, x) in itertools.product(enumerate(ends[0]), enumerate(ends[1])):
            np.add.at(steps, (y, x), -1 if first != second else 1)
        for axis in (0, 1):
            np.cumsum(steps, axis, np.int32, out=steps)
        found = steps[:height, :width].astype(np.float32)
        del steps  # as large as the canvas
        return self._arrays.put(found)

    def mean_counts(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """The mean of these patterns in counts, (N, N), zero frequency at (N/2, N/2), zero on bad pixels."""
        total = np.zeros((self._size, self._size))
        count = max(1, self._arrays.elements // self._size**2)
        for start in range(0, len(indices), count):
            part = self._arrays.put(self._patterns[indices[start : start + count]])
            total += self._arrays.get((part * part).sum(0))
        total /= len(indices)
        return total if self._good is None else total * self._arrays.get(self._good)

    def far_counts(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
        """Counts of the pixels far from the beam, of one of these patterns after the other, (F,)."""
        for index in indices:
            yield self._patterns[index].ravel()[self._far].astype(np.float64) ** 2

    def far_light(self, probe: Array) -> float:
        """Mean counts of a pixel far from the beam that a probe, see :class:`Iterate`, puts there alone."""
        alone = self._arrays.get(power(self._arrays.fft(self._arrays.copy(probe))))
        return float(alone.ravel()[self._far].mean())

    def compare(self, iterate: Iterate, indices: NDArray[np.int64]) -> Agreement:
        """How an estimate agrees with these patterns."""
        get, spectra = self._arrays.get, self._spectra(iterate)
        columns: list[list[NDArray[np.float64]]] = []

        def compared(part: NDArray[np.int64]) -> list[NDArray[np.float64]]:
            measured, modelled = self._amplitudes(part, self._propagate(iterate, spectra, part).waves)
            pairs = ((measured, measured), (measured, modelled), (modelled, modelled))
            return [self._errors(measured, modelled), *(_dots(*pair, get) for pair in pairs)]

        self._arrays.each(compared, self._chunks(iterate, indices), columns.append)
        return Agreement(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def amplitudes(
        self, iterate: Iterate, indices: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], Array, Array]]:
        """Some of these patterns at a time: their indices, √n and √λ, (B, N, N), zero on bad pixels."""
        spectra = self._spectra(iterate)
        for part in self._chunks(iterate, indices):
            waves = self._propagate(iterate, spectra, part).waves
            yield part, *self._amplitudes(part, waves)

    def gradients(
        self,
        iterate: Iterate,
        indices: NDArray[np.int64],
        *,
        probe: bool,
        positions: bool,
        light: bool = False,
        illumination: bool = False,
        weights: NDArray[np.float64] | None = None,
    ) -> Gradients:
        """Gradients of the metric over these patterns; those of probe and positions if asked for.

        ``light`` asks for what tells of the beam and the background, ``illumination`` for what
        :meth:`illumination` gives, which other threads hide here. ``weights``, (M,) float64 of all
        patterns, multiply what each adds to the gradients, not its error.
        """
        arrays, xp = self._arrays, self._arrays.xp
        spectra = self._spectra(iterate)
        spectrum = spectra[0]
        weight = power(iterate.probe)
        canvas = arrays.zeros(iterate.canvas.shape, iterate.canvas)
        probe_spectrum = arrays.zeros(spectrum.shape, spectrum)
        object_power = arrays.zeros(weight.shape, weight)
        lit = arrays.zeros(iterate.canvas.shape, weight) if illumination else None
        far = FarPixels()
        varying = VariationSums.of(arrays, iterate, spectra[1]) if probe else None
        found: list[_Found] = []

        def of(part: NDArray[np.int64]) -> _Found:
            sent = self._propagate(iterate, spectra, part)
            patches, waves = sent.patches, sent.waves
            measured, modelled = self._amplitudes(part, waves)
            exposure = self._exposure(part)
            own = _Found(sent.rows, sent.columns, exposure, self._errors(measured, modelled))
            if light:
                own.modelled = _dots(modelled, modelled, arrays.get)
                own.far = self._far_pixels(measured, modelled, None if weights is None else weights[part])
            factor = self._factor(measured, modelled)
            if exposure is not None:
                factor *= exposure
            if weights is not None:
                factor *= arrays.put(weights[part].astype(np.float32))[:, None, None]
            waves *= factor[:, None]
            back = arrays.ifft(waves)
            towards = xp.conj(sent.probes) * back
            own.towards = towards[:, 0] if towards.shape[1] == 1 else towards.sum(1)
            if not (probe or positions):
                return own
            # in Fourier space, where a probe is moved by a ramp, both gradients are one product away
            back *= xp.conj(patches)[:, None]
            back = arrays.fft(back)
            back *= xp.conj(self._ramp(iterate.positions[part]) if sent.ramp is None else sent.ramp)[:, None]
            if probe:
                own.probe = back.sum(0)
                brightness = modulus_squared(patches)
                brightness = brightness if exposure is None else brightness * exposure
                own.object_power = brightness.sum(0)
                if varying is not None:
                    own.variation = varying.of_part(part, back, brightness)
            if positions:
                own.slopes = arrays.get(self._slopes(spectrum, back))
                curvature = _curvature(xp, patches, weight)
                own.curvature = arrays.get(curvature if exposure is None else curvature * exposure[:, 0])
            return own

        def take(own: _Found) -> None:
            nonlocal far, canvas, probe_spectrum, object_power
            arrays.add(canvas, own.towards, own.rows, own.columns)
            if lit is not None:
                light_each = weight if own.exposure is None else weight * own.exposure
                arrays.add(lit, light_each, own.rows, own.columns)
            if light:
                far += own.far
            if probe:
                probe_spectrum += own.probe
                object_power += own.object_power
            if varying is not None and own.variation is not None:
                varying.add(own.variation)
            own.towards = own.probe = own.object_power = own.variation = None  # they are large
            found.append(own)

        arrays.each(of, self._chunks(iterate, indices), take)

        def joined(values: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
            return np.concatenate(list(values)).astype(np.float64)

        return Gradients(
            canvas=canvas,
            probe=arrays.ifft(probe_spectrum) if probe else None,
            object_power=object_power if probe else None,
            positions=joined(own.slopes for own in found) if positions else None,
            curvature=joined(own.curvature for own in found) if positions else None,
            errors=joined(own.errors for own in found),
            modelled=joined(own.modelled for own in found) if light else None,
            far=far if light else None,
            variation=None if varying is None else varying.total(),
            illumination=lit,
        )

    def probe_gradients(self, iterate: Iterate, indices: NDArray[np.int64]) -> list[Array]:
        """∂L/∂P* of each pattern by its own probe, some in each; (B, modes, N, N) in Fourier space."""
        xp, spectra = self._arrays.xp, self._spectra(iterate)

        def of(part: NDArray[np.int64]) -> Array:
            sent = self._propagate(iterate, spectra, part)
            factor, exposure = self._factor(*self._amplitudes(part, sent.waves)), self._exposure(part)
            if exposure is not None:
                factor *= exposure
            sent.waves *= factor[:, None]
            back = self._arrays.fft(self._arrays.ifft(sent.waves) * xp.conj(sent.patches)[:, None])
            return (
                back
                * xp.conj(self._ramp(iterate.positions[part]) if sent.ramp is None else sent.ramp)[:, None]
            )

        found: list[Array] = []
        self._arrays.each(of, self._chunks(iterate, indices), found.append)
        return found

    # ------------------------------------------------------------------ one chunk

    def _chunks(self, iterate: Iterate, indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Parts of about the same size, an even number of them: two threads end at about the same time."""
        count = max(1, self._arrays.elements // (len(iterate.probe) * self._size**2))
        parts = -(-len(indices) // count)
        return np.array_split(indices, min(parts + parts % 2, len(indices)) if parts > 1 else 1)

    def _exposure(self, part: NDArray[np.int64]) -> Array | None:
        """e_k of a chunk, (B, 1, 1), or None where all are 1."""
        if self._exposures is None:
            return None
        return self._arrays.put(self._exposures[part])[:, None, None]

    def _spectra(self, iterate: Iterate) -> tuple[Array, Array | None]:
        """Far fields of the probe, (modes, N, N), and of what it varies by, (K, modes, N, N)."""
        fft, copy = self._arrays.fft, self._arrays.copy
        variation = iterate.variation
        return fft(copy(iterate.probe)), None if variation is None else fft(copy(variation.shapes))

    def _propagate(
        self, iterate: Iterate, spectra: tuple[Array, Array | None], part: NDArray[np.int64]
    ) -> _Sent:
        """Waves at the detector, and what they are made of."""
        arrays = self._arrays
        rows, columns, _ = self.corners(iterate.positions[part])
        probes, ramp = self._moved_probes(iterate, spectra, part)
        patches = arrays.cut(iterate.canvas, rows, columns, self._size)
        return _Sent(rows, columns, ramp, probes, patches, arrays.fft(probes * patches[:, None]))

    def _moved_probes(
        self, iterate: Iterate, spectra: tuple[Array, Array | None], part: NDArray[np.int64]
    ) -> tuple[Array, Array | None]:
        """The probes, and the ramp that moved them, unless they are held."""
        spectrum, shapes = spectra

        def made(part: NDArray[np.int64]) -> tuple[Array, Array]:
            own, ramp = spectrum, self._ramp(iterate.positions[part])
            if shapes is not None and iterate.variation is not None:
                weights = self._arrays.put(iterate.variation.weights[part].astype(np.complex64))
                own = spectrum + (weights @ shapes.reshape(len(shapes), -1)).reshape(-1, *spectrum.shape)
            return self._arrays.ifft(own * ramp[:, None]), ramp

        held = self._held
        if held and held.are_of(iterate.probe, iterate.positions):
            return held.of(part, lambda part: made(part)[0]), None
        return made(part)

    def _ramp(self, positions: NDArray[np.float64]) -> Array:
        """What the spectrum of a probe at these positions is multiplied by, (B, N, N)."""
        rest = self.corners(positions)[-1]
        x, y = (self._arrays.put(np.exp(-1j * np.outer(r, self._omega)).astype(np.complex64)) for r in rest.T)
        return y[:, :, None] * x[:, None, :]

    def _amplitudes(self, part: NDArray[np.int64], waves: Array) -> tuple[Array, Array]:
        """√n and √λ, (B, N, N), zero on bad pixels."""
        measured = self._arrays.put(self._patterns[part])
        modelled = abs(waves)
        if waves.shape[1] == 1:
            modelled = modelled[:, 0]
        else:
            modelled *= modelled
            modelled = self._arrays.xp.sqrt(modelled.sum(1))
        exposure = self._exposure(part)
        if exposure is not None:
            modelled = modelled * self._arrays.xp.sqrt(exposure)
        if self._light.background > 0:
            modelled = self._arrays.xp.sqrt(modelled * modelled + self._light.background)
        if self._good is not None:
            measured *= self._good
            modelled *= self._good
        return measured, modelled

    def _factor(self, measured: Array, modelled: Array) -> Array:
        """∂L/∂ψ* = e · factor · ψ: 1 - √n/√λ, or for the likelihood (1 - n/λ) / 2; zero on bad pixels."""
        xp = self._arrays.xp
        ratio = measured / xp.clip(modelled, self._tiny, None)
        factor = 1.0 - ratio
        if self.by_likelihood:
            factor *= 0.5 + 0.5 * xp.clip(ratio, None, self._outlier_ratio)
        if self._good is not None:
            factor *= self._good
        return factor

    def _far_pixels(self, measured: Array, modelled: Array, weights: NDArray[np.float64] | None) -> FarPixels:
        if not self._light.background > 0:
            return FarPixels()
        roots = (values.reshape(len(values), -1)[:, self._far] for values in (measured, modelled))
        counts, rate = (root * root for root in roots)
        inverse = 1.0 / rate
        excess, certainty = (
            np.asarray(self._arrays.get(values.sum(1)), np.float64)
            for values in (counts * inverse - 1.0, inverse)
        )
        # false counts of a broken pattern are no background, however little they count for
        whole = np.ones(len(excess)) if weights is None else (weights == 1.0).astype(np.float64)
        return FarPixels(float(whole @ excess), float(whole @ certainty))

    def _errors(self, measured: Array, modelled: Array) -> NDArray[np.float64]:
        if not self._poisson:
            rest = modelled - measured
            return _dots(rest, rest, self._arrays.get)
        xp = self._arrays.xp
        ratio = xp.clip(measured, self._tiny, None) / xp.clip(modelled, self._tiny, None)
        counts = measured * measured
        deviance = modelled * modelled - counts + 2.0 * counts * xp.log(ratio)
        return 0.5 * np.asarray(self._arrays.get(deviance.sum((1, 2))), np.float64)

    def _slopes(self, spectrum: Array, back: Array) -> Array:
        """∂L/∂r / 2, (B, 2): moving a probe multiplies its spectrum by -iω, so Re<-iω P, Q> = -ω Im<P, Q>."""
        xp = self._arrays.xp
        product = (xp.conj(spectrum) * back).sum(1).imag
        return -xp.stack((product.sum(1) @ self._omega32, product.sum(2) @ self._omega32), -1)


@dataclass
class _Sent:
    """Patterns' waves at the detector, and what they are made of.

    Attributes
    ----------
    rows, columns
        (B,) corners of the patches.
    ramp
        (B, N, N) what moved the probes; None where they were at hand.
    probes, waves
        (B, modes, N, N).
    patches
        (B, N, N).
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    ramp: Array | None
    probes: Array
    patches: Array
    waves: Array


@dataclass
class _Found:
    """What one part of a batch adds to :class:`Gradients`; None: it is not asked for, or added already.

    Attributes
    ----------
    rows, columns
        (B,) corners of the patches.
    exposure
        (B, 1, 1), or None where all are 1.
    errors, modelled, far, slopes, curvature
        Of the part's patterns; slopes are the gradient by the positions.
    towards
        (B, N, N) gradient by each patch.
    probe, object_power
        Sums over the part, the first in Fourier space.
    variation
        Of :meth:`VariationSums.of_part`.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    exposure: Array | None
    errors: NDArray[np.float64]
    modelled: Any = None
    far: FarPixels = field(default_factory=FarPixels)
    towards: Array | None = None
    probe: Array | None = None
    object_power: Array | None = None
    variation: tuple[Array, ...] | None = None
    slopes: Any = None
    curvature: Any = None


def _curvature(xp: Array, patches: Array, weight: Array) -> Array:
    """Σ |P|² |∂O|² by differences of neighbours, (B, 2)."""
    across = modulus_squared(patches[:, :, 1:] - patches[:, :, :-1]) * weight[:, 1:]
    down = modulus_squared(patches[:, 1:] - patches[:, :-1]) * weight[1:]
    return xp.stack((across.sum((1, 2)), down.sum((1, 2))), -1)


def _dots(a: Array, b: Array, get: Callable[[Array], NDArray[Any]]) -> NDArray[np.float64]:
    """Σ a b of each pattern, (B,); not by BLAS, which has threads and an order of sums of its own."""
    return np.asarray(get((a * b).reshape(len(a), -1).sum(1)), np.float64)
