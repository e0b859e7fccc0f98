"""The forward model: object patches to expected photon counts (steps 1 to 4 of Hoidn et al., 2023).

The float64 reference implementation of every function here is :mod:`ptychopinn_ptychodus.data.simulation`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..hyperparameters import MERGE_FLOOR


def resample(images: Tensor, shift: Tensor, size: int) -> Tensor:
    """Sample ``images`` on a centred ``size`` × ``size`` grid that is displaced by ``shift``.

    ``out(p) = image(p + shift)``, bilinear, zero outside.

    Parameters
    ----------
    images
        (K, H, H) complex or (K, F, H, H) real.
    shift
        (K, 2), ``[x, y]`` in pixels.
    """
    if images.is_complex():
        planes = torch.stack((images.real, images.imag), 1)
        out = resample(planes, shift, size)
        return torch.complex(out[:, 0], out[:, 1])
    extent = images.shape[-1]
    axis = torch.arange(size, device=images.device, dtype=images.dtype) + 0.5 * (extent - size)
    # align_corners: pixel centres 0 … extent-1 map to -1 … 1
    scale = 2.0 / (extent - 1)
    x = (axis[None] + shift[:, 0:1]) * scale - 1.0
    y = (axis[None] + shift[:, 1:2]) * scale - 1.0
    grid = torch.stack((x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def fourier_shift(images: Tensor, shift: Tensor) -> Tensor:
    """Move the content of complex (…, N, N) images by ``shift`` (…, 2), ``[x, y]`` in pixels."""
    size = images.shape[-1]
    frequency = torch.fft.fftfreq(size, device=images.device)
    # a sub-pixel phase at the Nyquist frequency has no sign, and would make real images complex
    frequency = torch.where(frequency == -0.5, torch.zeros_like(frequency), frequency)
    x, y = shift[..., 0, None, None], shift[..., 1, None, None]
    angle = -2 * math.pi * (frequency * x + frequency[:, None] * y)
    moved: Tensor = torch.fft.ifft2(torch.fft.fft2(images) * torch.polar(torch.ones_like(angle), angle))
    return moved


def region_size(offsets: Tensor, size: int) -> int:
    """Pixels of the square region that holds every patch of every group: N + 2(⌈max|r|⌉ + 1)."""
    return size + 2 * (math.ceil(float(offsets.detach().abs().max())) + 1)


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
    b, c, n, _ = patches.shape
    size = region_size(offsets, n)
    flat = patches.reshape(b * c, n, n)
    planes = torch.stack((flat.real, flat.imag, torch.ones_like(flat.real)), 1)
    placed = resample(planes, -offsets.reshape(b * c, 2), size).reshape(b, c, 3, size, size).sum(1)
    total = torch.complex(placed[:, 0], placed[:, 1])
    return total / (placed[:, 2] + MERGE_FLOOR)


def extract(region: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Cut one patch per offset: ``O'_k(p) = O_region(p + r_k)``; (B, R, R) to (B, C, size, size)."""
    b, c, _ = offsets.shape
    repeated = region[:, None].expand(-1, c, -1, -1).reshape(b * c, *region.shape[-2:])
    return resample(repeated, offsets.reshape(b * c, 2), size).reshape(b, c, size, size)


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
    flat = waves.reshape(-1, 1, *waves.shape[-2:])
    half = smoothing.shape[-1] // 2
    real, imag = (
        F.conv2d(
            F.conv2d(part, smoothing[None, None, None], padding=(0, half)),
            smoothing[None, None, :, None],
            padding=(half, 0),
        )
        for part in (flat.real, flat.imag)
    )
    return torch.complex(real, imag).reshape(waves.shape)


def intensity(exit_waves: Tensor) -> Tensor:
    """Detector intensity of incoherent modes, ``I_k = Σ_m |F{Ψ_k,m}|²``.

    Orthonormal FFT, zero frequency at (N/2, N/2); (B, C, modes, N, N) complex to (B, C, N, N) real.
    """
    spectrum: Tensor = torch.fft.fftshift(torch.fft.fft2(exit_waves, norm="ortho"), dim=(-2, -1))
    return (spectrum.real.square() + spectrum.imag.square()).sum(-3)


def gaussian_kernel(sigma: float) -> Tensor:
    """Normalised 1-D Gaussian, cut at 3 σ."""
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()
