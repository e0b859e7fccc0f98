"""Object, probe and positions to patterns: the float64 reference of the forward model, and simulated scans.

The functions of the first part are the reference implementation for every engine: they follow the formulas
as they stand, without approximation or shortcut. Offsets are [x, y] in pixels, patterns have their zero
frequency at (N/2, N/2), and F is the orthonormal 2-D FFT.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from .interpolation import CHUNK, PatchCutter
from .raw import RawData

MERGE_EPSILON = 1e-3
"""Added to the number of overlapping patches, so that empty parts of a region stay finite."""

ComplexArray = NDArray[np.complex128]
RealArray = NDArray[np.float64]

# ---------------------------------------------------------------------- forward model


def shift_bilinear(image: ArrayLike, dx: float, dy: float) -> ComplexArray:
    """Move the content of an image by (dx, dy): ``out(u) = image(u - r)``, bilinear, zero outside.

    Parameters
    ----------
    image
        (H, W) real or complex.
    dx, dy
        Shift towards larger columns and rows, pixels.

    Returns
    -------
    ndarray
        (H, W) complex128.
    """
    source = np.asarray(image, dtype=np.complex128)
    whole_x, whole_y = math.floor(dx), math.floor(dy)
    fx, fy = dx - whole_x, dy - whole_y
    moved = np.zeros_like(source)
    for step_y, weight_y in ((0, 1.0 - fy), (1, fy)):
        for step_x, weight_x in ((0, 1.0 - fx), (1, fx)):
            moved += weight_y * weight_x * _shift_whole(source, whole_x + step_x, whole_y + step_y)
    return moved


def _shift_whole(image: ComplexArray, dx: int, dy: int) -> ComplexArray:
    height, width = image.shape
    moved = np.zeros_like(image)
    if abs(dx) < width and abs(dy) < height:
        to_y, to_x = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
        from_y, from_x = slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0))
        moved[to_y, to_x] = image[from_y, from_x]
    return moved


def merge(patches: ArrayLike, offsets: ArrayLike) -> ComplexArray:
    """Average the patches of a group in their common region.

    ``O_region(u) = Σ_k O_k(u - r_k) / (Σ_k 1_k(u - r_k) + 1e-3)`` with bilinear shifts (Hoidn et al., Sci.
    Rep. 13, 22789, 2023).

    Parameters
    ----------
    patches
        (C, N, N) complex.
    offsets
        (C, 2) offsets [x, y] of the patches from the region's centre, pixels.

    Returns
    -------
    ndarray
        (N + 2p, N + 2p) complex128 with a border of ``p = ceil(max |r|) + 1`` pixels on each side.
    """
    stack = np.asarray(patches, dtype=np.complex128)
    shifts = np.asarray(offsets, dtype=np.float64)
    border = region_border(shifts)
    size = stack.shape[-1] + 2 * border
    total, count = (np.zeros((size, size), dtype=np.complex128) for _ in range(2))
    for patch, (dx, dy) in zip(stack, shifts, strict=True):
        total += shift_bilinear(np.pad(patch, border), dx, dy)
        count += shift_bilinear(np.pad(np.ones_like(patch), border), dx, dy)
    return np.divide(total, count + MERGE_EPSILON)


def region_border(offsets: ArrayLike) -> int:
    """Pixels that a region extends beyond a patch on each side: ``ceil(max |r|) + 1``."""
    return math.ceil(float(np.abs(np.asarray(offsets)).max())) + 1


def extract(region: ArrayLike, offsets: ArrayLike, n: int) -> ComplexArray:
    """Cut a group's patches out of its region: ``O'_k(p) = O_region(p + r_k)``, bilinear.

    Parameters
    ----------
    region
        (R, R) complex, from :func:`merge`.
    offsets
        (C, 2) offsets [x, y], pixels.
    n
        Edge of a patch, pixels; R - n is even.

    Returns
    -------
    ndarray
        (C, n, n) complex128.
    """
    source = np.asarray(region, dtype=np.complex128)
    border = (source.shape[-1] - n) // 2
    inside = slice(border, border + n)
    shifts = np.asarray(offsets, dtype=np.float64)
    return np.stack([shift_bilinear(source, -dx, -dy)[inside, inside] for dx, dy in shifts])


def merge_and_extract(patches: ArrayLike, offsets: ArrayLike) -> ComplexArray:
    """:func:`merge`, then :func:`extract`: the patches of a group made consistent, (C, N, N) complex128."""
    stack = np.asarray(patches)
    return extract(merge(stack, offsets), offsets, stack.shape[-1])


def diffraction_intensity(patches: ArrayLike, probe: ArrayLike) -> RealArray:
    """Far-field intensity of illuminated patches: ``I_k = Σ_m |F{P_m · O_k}|²`` (modes are incoherent).

    Parameters
    ----------
    patches
        (C, N, N) complex.
    probe
        (modes, N, N) complex.

    Returns
    -------
    ndarray
        (C, N, N) float64, zero frequency at (N/2, N/2). F keeps energy: ``Σ I_k = Σ_m Σ |P_m · O_k|²``.
    """
    exit_waves = np.asarray(patches, np.complex128)[:, None] * np.asarray(probe, np.complex128)[None]
    far_field = np.fft.fftshift(np.fft.fft2(exit_waves, norm="ortho"), axes=(-2, -1))
    intensity: RealArray = (far_field.real**2 + far_field.imag**2).sum(axis=1)
    return intensity


def predicted_counts(patches: ArrayLike, probe: ArrayLike, log_scale: float) -> RealArray:
    """Expected counts ``λ = exp(2α) I`` with ``α = log_scale``; (C, N, N) float64."""
    return math.exp(2.0 * log_scale) * diffraction_intensity(patches, probe)


def poisson_nll(counts: ArrayLike, expected: ArrayLike, good_pixels: ArrayLike | None = None) -> float:
    """Poisson negative log-likelihood ``Σ (λ - n log λ)`` over good pixels, without the constant log n!.

    Raises
    ------
    ValueError
        If λ is not above 0 on every good pixel.
    """
    n, rate = _good(counts, good_pixels), _good(expected, good_pixels)
    if not (rate > 0).all():
        raise ValueError("expected counts must be above 0 on every good pixel: add a background.")
    return float((rate - n * np.log(rate)).sum())


def poisson_floor(counts: ArrayLike, good_pixels: ArrayLike | None = None) -> float:
    """Smallest value that :func:`poisson_nll` can take for these counts, at λ = n."""
    n = _good(counts, good_pixels)
    positive = n[n > 0]
    return float((positive - positive * np.log(positive)).sum())


def amplitude_mae(counts: ArrayLike, expected: ArrayLike, good_pixels: ArrayLike | None = None) -> float:
    """Mean absolute difference of amplitudes, ``mean |√n - √λ|`` over good pixels."""
    n, rate = _good(counts, good_pixels), _good(expected, good_pixels)
    return float(np.abs(np.sqrt(n) - np.sqrt(rate)).mean())


def aligned_mae(
    patches: ArrayLike, truth: ArrayLike, weight: ArrayLike, twin: ArrayLike | None = None
) -> float:
    """Illumination-weighted mean of ``|e^{iφ} O − O_true|``, where φ is the best phase of each patch.

    Diffraction does not determine φ. It is the phase of the weighted sum of ``O* O_true`` over the patch,
    which makes the weighted sum of ``|e^{iφ} O − O_true|²`` least.

    Parameters
    ----------
    patches, truth
        (…, N, N) complex.
    weight
        Not below 0, of any shape that broadcasts to theirs.
    twin
        (…, N, N) complex: another truth that diffraction does not tell from the first, see :mod:`.twins`.
        Each patch is compared with whichever of the two is less far from it.
    """
    of_patches = _aligned_difference(patches, truth, weight)
    if twin is not None:
        of_patches = np.minimum(of_patches, _aligned_difference(patches, twin, weight))
    return float(of_patches.mean())


def _aligned_difference(patches: ArrayLike, truth: ArrayLike, weight: ArrayLike) -> RealArray:
    made, known = np.asarray(patches, np.complex128), np.asarray(truth, np.complex128)
    light = np.asarray(weight, np.float64)
    overlap: NDArray[np.complex128] = (made.conj() * known * light).sum((-2, -1), keepdims=True)
    difference: RealArray = np.abs(made * np.exp(1j * np.angle(overlap)) - known) * light
    of_patches: RealArray = difference.mean((-2, -1)) / light.mean((-2, -1))
    return of_patches


def _good(values: ArrayLike, good_pixels: ArrayLike | None) -> RealArray:
    array = np.asarray(values, dtype=np.float64)
    return array.ravel() if good_pixels is None else array[..., np.asarray(good_pixels, dtype=bool)].ravel()


# ---------------------------------------------------------------------- simulated scans


def extract_patches(object_: ArrayLike, x: ArrayLike, y: ArrayLike, n: int) -> NDArray[np.complex64]:
    """Patches centred on sub-pixel positions by cubic splines, (K, n, n) complex64."""
    return PatchCutter(object_, n, order=3)(x, y)


def simulate_scan(
    object_: ArrayLike,
    probe: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    photons: float,
    seed: int | None,
    *,
    noise: bool = True,
) -> RawData:
    """Simulate a scan with photon noise.

    Parameters
    ----------
    object_
        (H, W) complex transmission function.
    probe
        (N, N) or (modes, N, N) complex; its scale is free.
    x, y
        (M,) positions in object pixels.
    photons
        Mean photons per pattern.
    seed
        Seed of the noise.
    noise
        False gives the expected counts themselves instead of Poisson counts.

    Returns
    -------
    RawData
        The scan, with the probe scaled so that ``Σ_m |F{P_m · O}|²`` is in counts, and the object as
        ``objectGuess``.

    Examples
    --------
    >>> x, y = raster_positions(3, 2, step=7.0, origin=38.0)
    >>> simulate_scan(make_object((80, 96)), make_probe(64), x, y, photons=1e6, seed=0)
    RawData(6 patterns of 64 × 64, 1 probe modes)
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    modes = np.asarray(probe, dtype=np.complex128)
    modes = modes.reshape(-1, *modes.shape[-2:])
    n = modes.shape[-1]
    parts = [slice(start, start + CHUNK) for start in range(0, xs.size, CHUNK)]
    # the FFT keeps energy, so the scale is known before any pattern is
    illumination = (np.abs(modes) ** 2).sum(axis=0)
    energy = sum(
        float((np.abs(extract_patches(object_, xs[part], ys[part], n)) ** 2 * illumination).sum())
        for part in parts
    )
    scale = photons * xs.size / energy
    rng = np.random.default_rng(seed)
    counts = np.empty((xs.size, n, n), dtype=np.uint32 if noise else np.float32)
    for part in parts:
        expected = scale * diffraction_intensity(extract_patches(object_, xs[part], ys[part], n), modes)
        counts[part] = rng.poisson(expected) if noise else expected
    return RawData(
        xcoords=xs,
        ycoords=ys,
        diff3d=counts,
        probeGuess=(modes * math.sqrt(scale)).astype(np.complex64),
        objectGuess=np.asarray(object_, dtype=np.complex64),
        domain="counts",
    )


def raster_positions(
    columns: int, rows: int, step: float, *, jitter: float = 0.2, origin: float = 0.0, seed: int | None = 0
) -> tuple[RealArray, RealArray]:
    """Positions of a raster scan, row by row, disturbed to avoid the raster-grid pathology.

    Parameters
    ----------
    columns, rows
        Number of positions along x and y.
    step
        Distance of neighbours, pixels.
    jitter
        Largest displacement in x and in y, as a fraction of ``step``.
    origin
        Coordinate of the first position, both axes.
    seed
        Seed of the jitter.

    Returns
    -------
    tuple
        x and y, (columns · rows,) float64 each, never below ``origin - jitter · step``.

    Examples
    --------
    >>> x, y = raster_positions(3, 2, step=7.0, jitter=0.0, origin=32.0)
    >>> x.tolist(), y.tolist()
    ([32.0, 39.0, 46.0, 32.0, 39.0, 46.0], [32.0, 32.0, 32.0, 39.0, 39.0, 39.0])
    """
    y, x = np.mgrid[:rows, :columns] * float(step) + origin
    shake = np.random.default_rng(seed).uniform(-1, 1, (2, x.size)) * jitter * step
    return x.ravel() + shake[0], y.ravel() + shake[1]


def make_probe(
    n: int, *, diameter: float = 0.4, defocus: float = 6.0, modes: int = 1
) -> NDArray[np.complex64]:
    """A finite, smooth, defocused probe.

    A soft-edged disk with residual phase curvature is blurred as free-space propagation would, which leaves
    the rings and the tails of a real zone-plate probe.

    Parameters
    ----------
    n
        Edge, pixels.
    diameter
        Full width of the disk as a fraction of ``n``.
    defocus
        Phase at the edge of the disk from curvature, rad.
    modes
        Number of incoherent modes; further ones are Hermite-like and hold a tenth of the one before.

    Returns
    -------
    ndarray
        (modes, n, n) complex64 with ``Σ |P|² = 1``.

    Examples
    --------
    >>> make_probe(64, modes=2).shape
    (2, 64, 64)
    """
    axis = np.arange(n) - (n - 1) / 2.0
    radius = np.hypot(axis[:, None], axis[None, :])
    edge = diameter * n / 2.0
    disk = 0.5 * (1.0 - np.tanh((radius - edge) / (0.04 * n)))
    wave = disk * np.exp(1j * defocus * (radius / edge) ** 2)
    frequency = np.fft.fftfreq(n)
    propagator = np.exp(-1j * math.pi * 0.3 * n * (frequency[:, None] ** 2 + frequency[None, :] ** 2))
    wave = np.fft.ifft2(np.fft.fft2(wave) * propagator)
    stack = []
    for m in range(modes):
        along = axis[None, :] if m % 2 else axis[:, None]
        mode = wave * (along / edge) ** ((m + 1) // 2)
        stack.append(mode * math.sqrt(0.1**m / (np.abs(mode) ** 2).sum()))
    probe = np.stack(stack)
    return (probe / math.sqrt(float((np.abs(probe) ** 2).sum()))).astype(np.complex64)


def make_object(shape: tuple[int, int], kind: str = "mixed", seed: int | None = 0) -> NDArray[np.complex64]:
    """A test object with detail at all scales.

    Parameters
    ----------
    shape
        (H, W) pixels.
    kind
        ``"siemens"``: a Siemens star; ``"blobs"``: a smooth random field and grains; ``"lines"``: random
        lines; ``"mixed"``: all of them.
    seed
        Seed of what is random in it.

    Returns
    -------
    ndarray
        (H, W) complex64, amplitude in (0.3, 1], phase within ±0.8 rad.

    Raises
    ------
    ValueError
        If the kind is not known.

    Examples
    --------
    >>> star = make_object((96, 128), kind="siemens")
    >>> star.shape, star.dtype
    ((96, 128), dtype('complex64'))
    """
    parts = {"siemens": _siemens_star, "blobs": _blobs, "lines": _lines}
    if kind != "mixed" and kind not in parts:
        raise ValueError(f"kind = {kind!r} is not valid: use {', '.join(map(repr, parts))} or 'mixed'.")
    rng = np.random.default_rng(seed)
    chosen = list(parts) if kind == "mixed" else [kind]
    layers = [parts[name](shape, rng) for name in chosen]
    absorption = np.mean([layer[0] for layer in layers], axis=0)
    phase = np.mean([layer[1] for layer in layers], axis=0)
    # a little blur keeps the object band-limited, so that sub-pixel patches of it exist
    absorption, phase = (ndimage.gaussian_filter(v, 0.7) for v in (absorption, phase))
    amplitude = 1.0 - 0.69 * absorption / max(float(absorption.max()), 1e-12)
    phase = 1.6 * (phase - phase.min()) / max(float(np.ptp(phase)), 1e-12) - 0.8
    transmission: NDArray[np.complex64] = (amplitude * np.exp(1j * phase)).astype(np.complex64)
    return transmission


def _siemens_star(shape: tuple[int, int], rng: np.random.Generator) -> tuple[RealArray, RealArray]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    y, x = y - (shape[0] - 1) / 2.0, x - (shape[1] - 1) / 2.0
    radius, angle = np.hypot(x, y), np.arctan2(y, x) + rng.uniform(0, 2 * math.pi)
    size = min(shape) / 2.0
    # 18 spokes between a hub and a rim, broken by two rings
    spokes = (np.sin(18 * angle) > 0) & (radius > 0.08 * size) & (radius < 0.92 * size)
    for ring in (0.35, 0.63):
        spokes &= np.abs(radius / size - ring) > 0.03
    return spokes.astype(np.float64), spokes.astype(np.float64)


def _blobs(shape: tuple[int, int], rng: np.random.Generator) -> tuple[RealArray, RealArray]:
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), min(shape) / 24)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    grains = ndimage.gaussian_filter((rng.random(shape) < 0.004).astype(np.float64), 2.0)
    grains = np.minimum(grains / max(float(grains.max()), 1e-12), 1.0)
    return 0.5 * smooth + 0.5 * grains, smooth + 0.5 * grains


def _lines(shape: tuple[int, int], rng: np.random.Generator) -> tuple[RealArray, RealArray]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    absorption, phase = np.zeros(shape), np.zeros(shape)
    for _ in range(40):
        angle, offset = rng.uniform(0, math.pi), rng.uniform(0, 1) * max(shape)
        distance = np.abs(x * math.cos(angle) + y * math.sin(angle) - offset * rng.choice([-1, 1]))
        line = (distance < rng.uniform(0.7, 2.5)).astype(np.float64)
        absorption = np.maximum(absorption, line * rng.uniform(0.3, 1.0))
        phase += line * rng.uniform(-0.5, 1.0)
    return absorption, np.clip(phase, -1.0, 2.0)
