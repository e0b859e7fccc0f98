"""The ``unrolled_fourier`` architecture: ``unrolled`` with Fourier layers in the place of its U-Nets.

What is wrong with an object after a few steps of a solver may be wrong all over it, as the twin image is: a
Fourier layer sees a whole region at once, where a convolution sees a few pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import ModelConfig
from ..hyperparameters import FOURIER_LAYERS, FOURIER_WIDTH, MODES
from .unrolled import UnrolledNetwork


class FourierLayer(nn.Module):
    """x + FF(near(x) + Σ over both axes of a few modes along it, mixed between channels).

    After the factorised Fourier layers of Tran et al., arXiv 2111.13802 (2023), with a convolution beside
    them. The parameter ``mixing`` is (2, 2, width, width, MODES): axis (along rows, along columns), real and
    imaginary part, channel from, channel to.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(2, 2, width, width, MODES) / math.sqrt(2 * width))
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, R, R) to the same."""
        size, dtype = x.shape[-1], torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            whole, basis = x.to(dtype), _basis(size, x.device, dtype)
            along = _mixed(whole, self.mixing[0], basis)
            across = _mixed(whole.transpose(-2, -1), self.mixing[1], basis).transpose(-2, -1)
        changed: Tensor = self.out(F.relu(self.near(x) + along + across))
        return x + changed


def _mixed(x: Tensor, mixing: Tensor, basis: tuple[Tensor, Tensor]) -> Tensor:
    """The modes of (B, width, R, R) along its last axis, mixed, as they are in the region."""
    cosine, sine = basis
    real, imaginary = x @ cosine, -(x @ sine)
    mix = "bihk,iok->bohk"
    mixed_real = torch.einsum(mix, real, mixing[0]) - torch.einsum(mix, imaginary, mixing[1])
    mixed_imaginary = torch.einsum(mix, real, mixing[1]) + torch.einsum(mix, imaginary, mixing[0])
    twice = torch.full((MODES,), 2.0, dtype=x.dtype, device=x.device)
    twice[0] = 1.0  # each other mode stands for its conjugate, too
    return (twice * mixed_real) @ cosine.mT - (twice * mixed_imaginary) @ sine.mT


def _basis(size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the first modes, (R, MODES): so few are quicker than a transform of all."""
    turns = torch.outer(torch.arange(size, device=device), torch.arange(MODES, device=device)) % size
    angle = turns.to(dtype) * (2 * math.pi / size)
    return angle.cos() / math.sqrt(size), angle.sin() / math.sqrt(size)


class FourierCorrection(nn.Module):
    """Fourier layers between two convolutions, the last of which starts at zero, to correct nothing."""

    def __init__(self, channels_in: int, channels_out: int, width: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(channels_in, width, 3, padding=1)
        self.layers = nn.ModuleList(FourierLayer(width) for _ in range(FOURIER_LAYERS))
        self.out = nn.Conv2d(width, channels_out, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, R, R) to (B, channels_out, R, R)."""
        x = self.into(x)
        for layer in self.layers:
            x = layer(x)
        corrected: Tensor = self.out(F.relu(x))
        return corrected


class UnrolledFourierNetwork(UnrolledNetwork):
    """See the module's docstring; called as every :class:`.Architecture`."""

    def correction(self, config: ModelConfig) -> nn.Module:
        return FourierCorrection(7, 2, FOURIER_WIDTH * config.n_filters_scale)
