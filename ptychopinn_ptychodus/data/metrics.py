"""How good a reconstruction is, once what intensities cannot determine has been removed.

Ptychography leaves a global complex factor, a linear phase ramp and a lateral shift undetermined:
:func:`align` fits and removes them, nothing else, and :func:`compare` scores what remains.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage
from skimage.metrics import structural_similarity
from skimage.registration import phase_cross_correlation

from .interpolation import CHUNK, PatchCutter, patch_corners
from .raw import RawData
from .stitching import coverage_of

ComplexArray = NDArray[np.complex128]

_ROWS = 32  # of a spectrum at a time


@dataclass(frozen=True)
class Alignment:
    """What :func:`align` removed.

    Attributes
    ----------
    shift_px
        [rows, columns] by which the content was moved.
    ramp_rad_per_px
        [rows, columns] slope of the phase ramp that was taken off.
    phase_rad
        Global phase that was taken off.
    scale
        Factor that the amplitude was multiplied by.
    """

    shift_px: tuple[float, float]
    ramp_rad_per_px: tuple[float, float]
    phase_rad: float
    scale: float


@dataclass(frozen=True)
class ImageScores:
    """Scores of one real image inside the mask; the data range is the truth's (maximum - minimum) there."""

    ssim: float
    psnr_db: float
    rmse: float
    pearson: float


@dataclass(frozen=True)
class Comparison:
    """Scores of a reconstruction against the truth.

    ``complex_correlation_centred`` is |⟨z - z̄, t - t̄⟩| / (‖z - z̄‖ ‖t - t̄‖): 0 for a featureless object.
    """

    amplitude: ImageScores
    phase: ImageScores
    complex_correlation_centred: float
    alignment: Alignment

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """Fourier ring correlation.

    Attributes
    ----------
    frequency
        (R,) centre frequency of each ring, cycles per pixel.
    correlation
        (R,) real part of the normalised correlation.
    threshold
        (R,) half-bit curve (van Heel & Schatz, J. Struct. Biol. 151, 250, 2005, eq. 17).
    cutoff
        First frequency at which the correlation falls below the threshold; None if it never does.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    threshold: NDArray[np.float64]
    cutoff: float | None

    def half_period(self, pixel_size: float = 1.0) -> float | None:
        """Half-period resolution in the unit of ``pixel_size``; None if there is no cutoff."""
        return None if self.cutoff is None else pixel_size / self.cutoff / 2.0


def align(
    reconstruction: ArrayLike, truth: ArrayLike, mask: ArrayLike | None = None, *, max_shift: float = 20.0
) -> tuple[ComplexArray, Alignment]:
    """Remove lateral shift, linear phase ramp, global phase and amplitude scale.

    Parameters
    ----------
    reconstruction, truth
        (H, W) complex.
    mask
        (H, W) bool, where to fit; everywhere by default.
    max_shift
        Largest shift to believe, pixels; 0 forbids shifts.

    Returns
    -------
    tuple
        The aligned reconstruction, (H, W) complex128, and what was removed.

    Raises
    ------
    ValueError
        If shapes differ or the mask is empty.
    """
    moving, fixed, inside = _checked(reconstruction, truth, mask)
    taper = _soft(inside)
    shift = np.zeros(2)
    if max_shift > 0:
        # neighbouring pixels' products turn a ramp into a constant, so this works before the ramp is known
        found = _register(_products(fixed), _products(moving), taper[1:, 1:], 10)
        shift = found if np.abs(found).max() <= max_shift else shift
        for _ in range(3):
            current = _without_ramp(_moved(moving, shift), fixed, inside)[0]
            step = _register(fixed, current, taper, 100)
            if np.abs(shift + step).max() > max_shift:
                break
            shift = shift + step
            if np.abs(step).max() < 0.005:
                break
    current, ramp, phase = _without_ramp(_moved(moving, shift), fixed, inside)
    a, b = np.abs(current[inside]), np.abs(fixed[inside])
    power = float((a * a).sum())
    scale = float((a * b).sum()) / power if power > 0 else 1.0
    removed = Alignment((float(shift[0]), float(shift[1])), (float(ramp[0]), float(ramp[1])), phase, scale)
    return current * scale, removed


def compare(
    reconstruction: ArrayLike, truth: ArrayLike, mask: ArrayLike | None = None, *, max_shift: float = 20.0
) -> Comparison:
    """Align a reconstruction and score it; parameters and errors as for :func:`align`.

    SSIM uses a Gaussian window of 1.5 pixels (Wang et al., IEEE Trans. Image Process. 13, 600, 2004).

    Examples
    --------
    >>> rows, columns = np.mgrid[:64, :64] / 10.0
    >>> truth = (1.0 + 0.5 * np.cos(rows)) * np.exp(1j * np.sin(columns))
    >>> scores = compare(2.0 * truth * np.exp(0.7j), truth)
    >>> round(scores.complex_correlation_centred, 3), round(scores.alignment.scale, 3)
    (1.0, 0.5)
    """
    _, fixed, inside = _checked(reconstruction, truth, mask)
    aligned, alignment = align(reconstruction, truth, mask, max_shift=max_shift)
    phase = np.angle(fixed)
    # the difference is wrapped, not the reconstruction: no jump of 2π where the truth has none
    aligned_phase = phase + np.angle(aligned * np.conj(fixed))
    z, t = aligned[inside], fixed[inside]
    z, t = z - z.mean(), t - t.mean()
    return Comparison(
        amplitude=_score(np.abs(aligned), np.abs(fixed), inside),
        phase=_score(aligned_phase, phase, inside),
        complex_correlation_centred=_ratio(abs(np.vdot(z, t)), np.linalg.norm(z) * np.linalg.norm(t)),
        alignment=alignment,
    )


def illumination_mask(
    probe: ArrayLike, x: ArrayLike, y: ArrayLike, shape: tuple[int, int], *, threshold: float = 0.3
) -> NDArray[np.bool_]:
    """Where a scan put light.

    Parameters
    ----------
    probe
        (modes, N, N) or (N, N) complex.
    x, y
        (M,) positions, object pixels.
    shape
        (H, W) of the object.
    threshold
        Fraction of the median dose of lit pixels (those above a twentieth of the maximum).

    Returns
    -------
    ndarray
        (H, W) bool, True where ``Σ_j Σ_m |P_m(u - r_j)|²`` exceeds the threshold.

    Examples
    --------
    >>> lit = illumination_mask(np.ones((8, 8)), [10.0, 14.0], [10.0, 10.0], (20, 20))
    >>> lit.shape, bool(lit[10, 12]), bool(lit[0, 0])
    ((20, 20), True, False)
    """
    modes = np.asarray(probe)
    intensity = (np.abs(modes.reshape(-1, *modes.shape[-2:])) ** 2).sum(axis=0)
    dose = coverage_of(intensity, x, y, shape)
    lit: NDArray[np.bool_] = dose > threshold * np.median(dose[dose > 0.05 * dose.max()])
    return lit


def normalised_amplitude_residual(raw: RawData, object_: ArrayLike, probe: ArrayLike) -> float:
    """Misfit of the data, ``Σ (√n - s √I)² / Σ n`` over good pixels, with the scale s fitted.

    Parameters
    ----------
    raw
        The scan.
    object_
        (H, W) complex.
    probe
        (modes, N, N) or (N, N) complex, any scale.

    Returns
    -------
    float
        0 for a perfect model of noise-free data; for Poisson data about (number of lit pixels)/4 per photon.
    """
    modes = np.asarray(probe)
    spectra = np.fft.fft2(modes.reshape(-1, *modes.shape[-2:]))
    frequency = np.fft.fftfreq(raw.N)
    good = ~raw.bad_pixels
    # The probe is moved by the fraction of a pixel, not the object: it is the smoother of the two.
    column, fraction_x = patch_corners(raw.xcoords, raw.N)
    row, fraction_y = patch_corners(raw.ycoords, raw.N)
    half = (raw.N - 1) / 2.0
    cut = PatchCutter(object_, raw.N)
    measured_sq = product = modelled_sq = 0.0
    for start in range(0, raw.n_patterns, CHUNK):
        part = slice(start, start + CHUNK)
        patches = cut(column[part] + half, row[part] + half)
        phase_y = np.exp(-2j * np.pi * fraction_y[part, None] * frequency)[:, :, None]
        phase_x = np.exp(-2j * np.pi * fraction_x[part, None] * frequency)[:, None, :]
        intensity = np.zeros(patches.shape)
        for spectrum in spectra:
            moved = np.fft.ifft2(spectrum * phase_y * phase_x)
            intensity += np.abs(np.fft.fft2(moved * patches, norm="ortho")) ** 2
        modelled = np.sqrt(np.fft.fftshift(intensity, axes=(1, 2)))[:, good]
        measured = raw.diff3d[part][:, good].astype(np.float64)
        measured_sq += float((measured**2).sum())
        product += float((measured * modelled).sum())
        modelled_sq += float((modelled**2).sum())
    return (measured_sq - product**2 / modelled_sq) / measured_sq


def fourier_ring_correlation(
    a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None, *, align_first: bool = True
) -> RingCorrelation:
    """Correlation of two objects ring by ring in Fourier space, with the half-bit threshold.

    Parameters
    ----------
    a, b
        (H, W) complex, reconstructed from independent data.
    mask
        (H, W) bool; the largest centred square in its bounding box is compared, apodised.
    align_first
        Remove shift, ramp, phase and scale of ``b`` against ``a`` first.

    Returns
    -------
    RingCorrelation
        Rings from 1/n to 1/2 cycles per pixel.

    Raises
    ------
    ValueError
        If shapes differ or the mask is empty.
    """
    first, second = np.asarray(a), np.asarray(b)
    inside = _checked_mask(second.shape, first.shape, mask)
    if align_first:
        second, _ = align(second, first, inside)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    n = int(min(np.ptp(rows), np.ptp(columns))) + 1
    top = int(rows[0] + rows[-1] + 1 - n) // 2
    left = int(columns[0] + columns[-1] + 1 - n) // 2
    window = np.s_[top : top + n, left : left + n]
    edge = 0.5 - 0.5 * np.cos(
        np.pi * np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.06 * n))
    )
    # images may be large: hardly anything of their size is held beside the two spectra
    apodise = ndimage.gaussian_filter(inside[window].astype(np.float32), 3.0)
    apodise *= edge[:, None]
    apodise *= edge
    spectra = [_spectrum(image[window], apodise) for image in (first, second)]
    del first, second
    frequency = np.fft.fftfreq(n) * n
    sums = np.zeros((4, n))
    for part in (slice(row, row + _ROWS) for row in range(0, n, _ROWS)):
        one, other = (np.asarray(spectrum[part], np.complex128) for spectrum in spectra)
        ring = np.floor(np.hypot(frequency[part, None], frequency)).astype(np.intp).ravel()
        products = ((one * np.conj(other)).real, np.abs(one) ** 2, np.abs(other) ** 2, np.ones(one.shape))
        for total, values in zip(sums, products, strict=True):
            total += np.bincount(ring, values.ravel(), minlength=n)[:n]
    cross, *powers, count = sums[:, 1 : n // 2]
    correlation = cross / np.sqrt(np.maximum(powers[0] * powers[1], np.finfo(float).tiny))
    # apodisation couples neighbouring samples: fewer of them are independent
    samples = np.sqrt(np.maximum(count / 2.0 * float(np.vdot(apodise, apodise)) / n**2, 1.0))
    threshold = (0.2071 + 1.9102 / samples) / (1.2071 + 0.9102 / samples)
    radii = np.arange(1, n // 2) / n
    # the innermost rings hold too few samples to tell
    below = np.flatnonzero(correlation[2:] < threshold[2:])
    return RingCorrelation(radii, correlation, threshold, float(radii[below[0] + 2]) if below.size else None)


# ---------------------------------------------------------------------- steps of the alignment


def _checked(
    reconstruction: ArrayLike, truth: ArrayLike, mask: ArrayLike | None
) -> tuple[ComplexArray, ComplexArray, NDArray[np.bool_]]:
    moving, fixed = np.asarray(reconstruction, np.complex128), np.asarray(truth, np.complex128)
    return moving, fixed, _checked_mask(moving.shape, fixed.shape, mask)


def _checked_mask(
    reconstruction: tuple[int, ...], truth: tuple[int, ...], mask: ArrayLike | None
) -> NDArray[np.bool_]:
    inside = np.ones(truth, dtype=np.bool_) if mask is None else np.asarray(mask, dtype=np.bool_)
    if not reconstruction == truth == inside.shape or len(truth) != 2:
        raise ValueError(
            f"The reconstruction is {reconstruction}, the truth {truth} and the mask {inside.shape}: "
            "compare images on the same grid."
        )
    if not inside.any():
        raise ValueError("The mask is empty: there is nothing to compare.")
    return inside


def _spectrum(image: NDArray[Any], apodise: NDArray[np.float32]) -> NDArray[np.complexfloating]:
    """Transform of an image less its mean, apodised; in the image's precision, in the place of one copy."""
    values = np.array(image, np.result_type(image, np.complex64))
    values *= apodise
    mean = complex(values.sum()) / float(apodise.sum())
    values.real -= mean.real * apodise
    values.imag -= mean.imag * apodise
    spectrum: NDArray[np.complexfloating] = fft.fft2(values, overwrite_x=True)
    return spectrum


def _soft(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    ramp = np.clip(depth / max(4.0, 0.06 * min(inside.shape)), 0.0, 1.0)
    softened: NDArray[np.float64] = np.sin(0.5 * np.pi * ramp) ** 2
    return softened


def _products(image: ComplexArray) -> ComplexArray:
    smooth = ndimage.gaussian_filter(image.real, 1.0) + 1j * ndimage.gaussian_filter(image.imag, 1.0)
    smooth = smooth / max(float(np.abs(smooth).mean()), 1e-30)
    product = smooth[1:, 1:] * np.conj(smooth[:-1, :-1])
    mean = product.mean()
    rotated: ComplexArray = product * np.exp(-1j * np.angle(mean))
    return rotated


def _register(
    fixed: ComplexArray, moving: ComplexArray, taper: NDArray[np.float64], upsampling: int
) -> NDArray[np.float64]:
    def prepared(image: ComplexArray) -> ComplexArray:
        weighted: ComplexArray = (image - (image * taper).sum() / taper.sum()) * taper
        return weighted

    one, other = prepared(fixed), prepared(moving)
    if not (one.any() and other.any()):
        return np.zeros(2)
    register: Any = phase_cross_correlation  # scikit-image's own annotations are partial
    shift = register(one, other, upsample_factor=upsampling, normalization=None)[0]
    return np.asarray(shift, dtype=np.float64)


def _moved(image: ComplexArray, shift: NDArray[np.float64]) -> ComplexArray:
    if not shift.any():
        return image
    moved: ComplexArray = ndimage.shift(image, shift, order=3, mode="nearest")
    return moved


def _without_ramp(
    moving: ComplexArray, fixed: ComplexArray, inside: NDArray[np.bool_]
) -> tuple[ComplexArray, NDArray[np.float64], float]:
    """Take off the ramp and phase that maximise ``|Σ conj(truth) · reconstruction · exp(-i(k·r + φ))|``."""
    y, x = (np.arange(size) - (size - 1) / 2.0 for size in fixed.shape)
    product = np.where(inside, np.conj(fixed) * moving, 0.0)
    padded = [2 * size for size in fixed.shape]
    spectrum = np.abs(np.fft.fft2(product, padded))
    peak = np.unravel_index(int(spectrum.argmax()), spectrum.shape)
    slope = np.array([2 * np.pi * np.fft.fftfreq(size)[i] for size, i in zip(padded, peak, strict=True)])
    weight = np.abs(product)
    total = max(float(weight.sum()), 1e-30)
    for _ in range(20):
        plane = slope[0] * y[:, None] + slope[1] * x[None, :]
        rest = product * np.exp(-1j * plane)
        mean = rest.sum()
        # Gauss-Newton on the phase that is left, weighted by |product|
        error = np.imag(rest * np.exp(-1j * np.angle(mean)))
        centre = np.array([(weight.sum(axis=1) * y).sum(), (weight.sum(axis=0) * x).sum()]) / total
        dy, dx = y[:, None] - centre[0], x[None, :] - centre[1]
        cross = (weight * dy * dx).sum()
        normal = np.array([[(weight * dy * dy).sum(), cross], [cross, (weight * dx * dx).sum()]])
        step = np.linalg.lstsq(normal, np.array([(error * dy).sum(), (error * dx).sum()]), rcond=None)[0]
        slope = slope + step
        if np.abs(step).max() < 1e-9:
            break
    flat = np.exp(-1j * (slope[0] * y[:, None] + slope[1] * x[None, :]))
    phase = float(np.angle((product * flat).sum()))
    return moving * flat * np.exp(-1j * phase), slope, phase


def _ratio(value: float, norm: Any) -> float:
    return float(value / norm) if norm > 0 else 0.0


def _score(image: NDArray[Any], truth: NDArray[Any], inside: NDArray[np.bool_]) -> ImageScores:
    data_range = float(np.ptp(truth[inside]))
    # a featureless truth has no range of its own
    data_range = data_range if data_range > 0 else 1.0
    measure: Any = structural_similarity
    _, similarity = measure(
        truth,
        image,
        data_range=data_range,
        full=True,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    rmse = float(np.sqrt(np.mean((image - truth)[inside] ** 2)))
    a, b = image[inside] - image[inside].mean(), truth[inside] - truth[inside].mean()
    return ImageScores(
        ssim=float(similarity[inside].mean()),
        psnr_db=float(20.0 * np.log10(data_range / max(rmse, 1e-15))),
        rmse=rmse,
        pearson=_ratio(float((a * b).sum()), np.linalg.norm(a) * np.linalg.norm(b)),
    )
