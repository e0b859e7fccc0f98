"""The forward model: object patches to expected photon counts (steps 1 to 4 of Hoidn et al., 2023).

The float64 reference implementation of every function here is :mod:`ptychopinn_ptychodus.data.simulation`.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from ..hyperparameters import MERGE_FLOOR
from .architecture import Tensor


def resample(images: Tensor, shift: Tensor, size: int | Tensor) -> Tensor:
    """Sample ``images`` on a centred ``size`` × ``size`` grid that is displaced by ``shift``.

    ``out(p) = image(p + shift)``, bilinear, zero outside.

    Parameters
    ----------
    images
        (K, H, H) complex or (K, F, H, H) real.
    shift
        (K, 2), ``[x, y]`` in pixels.
    """
    if images.dtype.is_complex:
        planes = tf.stack((tf.math.real(images), tf.math.imag(images)), 1)
        return tf.complex(*tf.unstack(resample(planes, shift, size), 2, 1))
    # A shift is a matrix of two diagonals for each axis. Products of them are several times as fast as
    # sampling, on a CPU too, and so is their gradient.
    extent = tf.shape(images)[-1]
    centred = tf.range(size)[:, None] - tf.range(extent)
    half_pixels = tf.cast(2 * centred + extent - size, tf.float32)
    weights = tf.nn.relu(1 - tf.abs(0.5 * half_pixels + shift[:, :, None, None]))
    columns, rows = weights[:, 0, None], weights[:, 1, None]
    return tf.matmul(tf.matmul(rows, images), columns, transpose_b=True)


def fourier_shift(images: Tensor, shift: Tensor) -> Tensor:
    """Move the content of complex (…, N, N) images by ``shift`` (…, 2), ``[x, y]`` in pixels."""
    frequency = np.fft.fftfreq(images.shape[-1]).astype(np.float32)
    # a sub-pixel phase at the Nyquist frequency has no sign, and would make real images complex
    frequency[frequency == -0.5] = 0.0
    angle = -2 * math.pi * frequency * shift[..., None]
    turn = tf.complex(tf.cos(angle), tf.sin(angle))
    turn = turn[..., 0, None, :] * turn[..., 1, :, None]
    return tf.signal.ifft2d(tf.signal.fft2d(images) * turn)


def region_size(offsets: Tensor, size: int) -> Tensor:
    """Pixels of the square region that holds every patch of every group: N + 2(⌈max|r|⌉ + 1)."""
    return size + 2 * (tf.cast(tf.math.ceil(tf.reduce_max(tf.abs(offsets))), tf.int32) + 1)


def merge(patches: Tensor, offsets: Tensor) -> Tensor:
    """Average the patches of each group on a common region.

    ``O_region(u) = Σ_k O_k(u − r_k) / (Σ_k 1_k(u − r_k) + 1e-3)``

    Parameters
    ----------
    patches
        (B, C, N, N) complex.
    offsets
        (B, C, 2) ``[x, y]`` of each patch from the centre of its group, pixels.

    Returns
    -------
    (B, R, R) complex, with R from :func:`region_size`.
    """
    _, c, n, _ = patches.shape
    size = region_size(offsets, n)
    flat = tf.reshape(patches, (-1, n, n))
    planes = tf.stack((tf.math.real(flat), tf.math.imag(flat), tf.ones_like(flat, tf.float32)), 1)
    placed = resample(planes, -tf.reshape(offsets, (-1, 2)), size)
    placed = tf.reduce_sum(tf.reshape(placed, (-1, c, 3, size, size)), 1)
    real, imag, count = tf.unstack(placed, axis=1)
    return tf.complex(real / (count + MERGE_FLOOR), imag / (count + MERGE_FLOOR))


def extract(region: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Cut one patch per offset: ``O'_k(p) = O_region(p + r_k)``; (B, R, R) to (B, C, size, size)."""
    c = offsets.shape[1]
    repeated = tf.repeat(region, c, 0)
    return tf.reshape(resample(repeated, tf.reshape(offsets, (-1, 2)), size), (-1, c, size, size))


def merge_and_extract(patches: Tensor, offsets: Tensor) -> Tensor:
    """Replace each patch by its cut of the group's common region; a group of one is left as it is."""
    if patches.shape[1] == 1:
        return patches
    return extract(merge(patches, offsets), offsets, patches.shape[-1])


def illuminate(patches: Tensor, probe: Tensor, smoothing: Tensor | None = None) -> Tensor:
    """Exit waves ``P_m · O_k``, (B, C, modes, N, N), smoothed if asked.

    ``patches`` are (B, C, N, N); ``probe`` is (modes, N, N), or (B, C, modes, N, N) where it differs.
    """
    waves = patches[:, :, None] * probe
    if smoothing is None:
        return waves
    n = patches.shape[-1]
    flat = tf.reshape(waves, (-1, n, n, 1))
    parts = tf.concat((tf.math.real(flat), tf.math.imag(flat)), 0)
    for kernel in (smoothing[None, :, None, None], smoothing[:, None, None, None]):
        parts = tf.nn.conv2d(parts, kernel, 1, "SAME")
    return tf.reshape(tf.complex(*tf.split(parts, 2)), tf.shape(waves))


def intensity(exit_waves: Tensor) -> Tensor:
    """Detector intensity of incoherent modes, ``I_k = Σ_m |F{Ψ_k,m}|²``.

    Orthonormal FFT, zero frequency at (N/2, N/2); (B, C, modes, N, N) complex to (B, C, N, N) real.
    """
    total = tf.reduce_sum(power(tf.signal.fft2d(exit_waves)), -3)
    return tf.signal.fftshift(total / exit_waves.shape[-1] ** 2, axes=(-2, -1))


def gaussian_kernel(sigma: float) -> Tensor:
    """Normalised 1-D Gaussian, cut at 3 σ."""
    radius = max(1, math.ceil(3 * sigma))
    x = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * (x / sigma) ** 2)
    return kernel / tf.reduce_sum(kernel)


@tf.custom_gradient
def power(z: Tensor) -> tuple[Tensor, object]:
    """``|z|²``, real, with the gradient in one pass."""
    return tf.math.real(z) ** 2 + tf.math.imag(z) ** 2, lambda upstream: z * tf.cast(2 * upstream, z.dtype)


@tf.custom_gradient
def as_complex(x: Tensor) -> tuple[Tensor, object]:
    """A real tensor as a complex one: unlike that of ``tf.cast``, its gradient does not warn."""
    return tf.cast(x, tf.complex64), tf.math.real
