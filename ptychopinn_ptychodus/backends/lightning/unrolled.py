"""The ``unrolled`` architecture: a few steps of a ptychographic solver, with learnt steps and corrections.

A group of C neighbouring patterns shares one complex object on a square region. Each step projects the exit
waves of the group onto the measured amplitudes, merges the resulting updates (weighted by illumination), and
moves the object along them with a learnt step and momentum; after some of the steps a small U-Net, which sees
object, update and illumination, corrects the object. Overlap is thereby used inside the network: what one
frame barely determines, the large-scale phase, is tied down by its neighbours.

``ModelConfig.reflections`` has the steps start from what a longer search with the exit waves has found.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...config import ModelConfig
from ..hyperparameters import (
    AMPLITUDE_FLOOR,
    FIRST_MOMENTUM,
    FIRST_STEP,
    LEVELS,
    MOST_KEPT,
    REFLECTION_RELAXATION,
    START_TILT,
    STEPS,
    STEPS_PER_CORRECTION,
    WEIGHT_FLOOR,
    WIDTH,
)
from .architecture import Architecture
from .forward import fourier_shift


class CorrectionNetwork(nn.Module):
    """U-Net of conv3×3–ReLU pairs whose last layer starts at zero: at first it corrects nothing."""

    def __init__(self, channels_in: int, channels_out: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        inputs = [channels_in, *widths[:-1]]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in itertools.pairwise(widths))
        self.out = nn.Conv2d(width, channels_out, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, R, R) to (B, channels_out, R, R); R is a multiple of 2^(LEVELS-1)."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat((skips[level], F.interpolate(x, scale_factor=2.0)), 1))
        corrected: Tensor = self.out(x)
        return corrected


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class GroupRegion:
    """Where the patches of each group lie on its region, to whole pixels; the rest moves the probe.

    Parameters
    ----------
    offsets
        (B, C, 2) ``[x, y]`` from the centre of the group, pixels.
    size
        N, the edge of a patch.
    reach
        The largest offset that the regions have room for; None: that of these groups.
    """

    def __init__(self, offsets: Tensor, size: int, reach: float | None = None) -> None:
        self.groups, self.channels, _ = offsets.shape
        whole = torch.round(offsets)
        self.rest = offsets - whole
        furthest = round(float(offsets.abs().max()) if reach is None else reach)
        multiple = 2 ** (LEVELS - 1)
        self.patch_size = size
        self.size = -(-(size + 2 * furthest) // multiple) * multiple
        start = whole.long() + (self.size - size) // 2
        axis = torch.arange(size, device=offsets.device)
        columns, rows = start[..., 0, None] + axis, start[..., 1, None] + axis
        first = torch.arange(self.groups, device=offsets.device)[:, None, None, None] * self.size**2
        self._index = (first + rows[..., :, None] * self.size + columns[..., None, :]).reshape(-1)

    def cut(self, region: Tensor) -> Tensor:
        """(B, R, R) to (B, C, N, N)."""
        if self.size == self.patch_size:
            return region[:, None].expand(-1, self.channels, -1, -1)
        patches = region.reshape(-1).index_select(0, self._index)
        return patches.view(self.groups, self.channels, self.patch_size, self.patch_size)

    def accumulate(self, patches: Tensor) -> Tensor:
        """(B, C, N, N) to (B, R, R): the sum of the patches, each where it lies."""
        if self.size == self.patch_size:
            return patches.sum(1)
        region = patches.new_zeros(self.groups * self.size**2)
        summed = region.index_add(0, self._index, patches.reshape(-1))
        return summed.view(self.groups, self.size, self.size)


class UnrolledNetwork(Architecture):
    """See the module's docstring; called as every :class:`Architecture`."""

    one_object = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.joint = config.object_big
        self.reflections = config.reflections
        self.corrections = nn.ModuleList(
            self.correction(config) for _ in range(STEPS // STEPS_PER_CORRECTION)
        )
        self.step = nn.Parameter(torch.full((STEPS,), FIRST_STEP))
        self.momentum = nn.Parameter(torch.full((STEPS,), FIRST_MOMENTUM))

    def correction(self, config: ModelConfig) -> nn.Module:
        """A fresh one: of object, update, velocity and light, (B, 7, R, R), to (B, 2, R, R), 0 at first."""
        return CorrectionNetwork(7, 2, WIDTH * config.n_filters_scale)

    def physics_parameters(self) -> list[nn.Parameter]:
        return [self.step, self.momentum]

    def forward(self, amplitude: Tensor, offsets: Tensor, probe: Tensor, good_pixels: Tensor) -> Tensor:
        patches, rest = self.on_pixels(amplitude, offsets, probe, good_pixels)
        return fourier_shift(patches, -rest)

    def on_pixels(
        self,
        amplitude: Tensor,
        offsets: Tensor,
        probe: Tensor,
        good_pixels: Tensor,
        reach: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        b, c, n, _ = amplitude.shape
        if not self.joint:  # every pattern is a group of its own
            amplitude, offsets = (
                amplitude.reshape(b * c, 1, n, n),
                torch.zeros_like(offsets).reshape(b * c, 1, 2),
            )
            if probe.dim() == 5:
                probe = probe.expand(b, c, *probe.shape[2:]).reshape(b * c, 1, *probe.shape[2:])
            if good_pixels.dim() == 4:
                good_pixels = good_pixels.expand(b, c, n, n).reshape(b * c, 1, n, n)
        region = GroupRegion(offsets, n, reach)
        moved_probe = fourier_shift(probe, region.rest[:, :, None])
        patches = region.cut(self._solve(amplitude, region, moved_probe, good_pixels))
        return patches.reshape(b, c, n, n), region.rest.reshape(b, c, 2)

    def _solve(self, amplitude: Tensor, region: GroupRegion, probe: Tensor, good_pixels: Tensor) -> Tensor:
        """Object of each group, (B, R, R) complex; ``probe`` is (B, C, modes, N, N), moved by the rest."""
        measured = torch.fft.ifftshift(amplitude, dim=(-2, -1))[:, :, None]
        good = torch.fft.ifftshift(good_pixels, dim=(-2, -1))
        if good.dim() == 4:
            good = good[:, :, None]
        illumination = region.accumulate((probe.real.square() + probe.imag.square()).sum(2))
        brightest = illumination.amax((-2, -1), keepdim=True)
        damping = 1 / (illumination + WEIGHT_FLOOR * brightest)
        light = (illumination / brightest + AMPLITUDE_FLOOR).sqrt()
        obj = torch.ones_like(illumination).to(probe.dtype)

        def exit_waves(obj: Tensor) -> Tensor:
            return probe * region.cut(obj)[:, :, None]

        def lacking(waves: Tensor) -> Tensor:
            far = torch.fft.fft2(waves, norm="ortho")
            modelled = (far.real.square() + far.imag.square()).sum(2, keepdim=True) + AMPLITUDE_FLOOR
            error: Tensor = torch.fft.ifft2(far * (good * (measured / modelled.sqrt() - 1)), norm="ortho")
            return error

        def merged(waves: Tensor) -> Tensor:
            return region.accumulate((probe.conj() * waves).sum(2)) * damping

        if self.reflections:
            with torch.no_grad():
                tilted = (obj * _tilt(region, illumination)).expand(region.groups, -1, -1)
                obj = _reflected(self.reflections, tilted, exit_waves, lacking, merged)
        velocity = torch.zeros_like(obj)

        def moved(step: int, obj: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            update = merged(lacking(exit_waves(obj)))
            velocity = self.momentum[step] * velocity + update
            return obj + self.step[step] * velocity, velocity, update

        def corrected(number: int, obj: Tensor, velocity: Tensor, update: Tensor, light: Tensor) -> Tensor:
            seen = (obj.real - 1, obj.imag, update.real, update.imag, velocity.real, velocity.imag, light)
            correction = self.corrections[number](torch.stack(seen, 1))
            # complex numbers have no half precision to match that of a network under autocast
            return obj + torch.complex(correction[:, 0].float(), correction[:, 1].float())

        run = _computed_again if _is_much(probe) else _kept
        for step in range(STEPS):
            obj, velocity, update = run(moved, step, obj, velocity)
            if (step + 1) % STEPS_PER_CORRECTION == 0:
                obj = run(corrected, step // STEPS_PER_CORRECTION, obj, velocity, update, light)
        return obj


def _tilt(region: GroupRegion, like: Tensor) -> Tensor:
    """The amplitude that reflections start from, (R, R); the same on regions of any size."""
    axis = torch.arange(region.size, device=like.device, dtype=like.dtype) - (region.size - 1) / 2
    along_x, along_y = (axis * (tilt / (region.patch_size / 2)) for tilt in START_TILT)
    amplitude: Tensor = 1 + along_x + along_y[:, None]
    return amplitude


def _reflected(
    count: int,
    obj: Tensor,
    exit_waves: Callable[[Tensor], Tensor],
    lacking: Callable[[Tensor], Tensor],
    merged: Callable[[Tensor], Tensor],
) -> Tensor:
    """The object (B, R, R) after ``count`` steps of a relaxed hybrid projection–reflection.

    After Bauschke, Combettes and Luke, J. Opt. Soc. Am. A 20, 1025 (2003), between the waves of the measured
    amplitudes and those of one object. Unlike the object, the waves may contradict each other and the
    illumination meanwhile, which is how they leave places where alternating projections stay. No gradient
    goes through it.
    """
    waves = exit_waves(obj)
    for _ in range(count):
        measured = waves + lacking(waves)
        reflected = (1 + REFLECTION_RELAXATION) * measured - waves
        waves = waves + exit_waves(merged(reflected)) - REFLECTION_RELAXATION * measured
    return merged(waves + lacking(waves))


def _is_much(probe: Tensor) -> bool:
    """Whether what the gradients need of all steps would take too much of the machine's memory.

    A GPU has its own for nothing else. Of a batch that is learnt from in parts, that is so where a single
    group is much.
    """
    return torch.is_grad_enabled() and probe.device.type == "cpu" and probe.numel() > MOST_KEPT


def _kept(function: Callable[..., Any], *values: Any) -> Any:
    return function(*values)


def _computed_again(function: Callable[..., Any], *values: Any) -> Any:
    """As ``function(*values)``; what its gradients need is computed once more for them."""
    return checkpoint(function, *values, use_reentrant=False, preserve_rng_state=False)
