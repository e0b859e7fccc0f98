"""The architectures by name, and the convolutional one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import ModelConfig
from ..hyperparameters import (
    AMPLITUDE_BIAS,
    AMPLITUDE_UNIT,
    HEAD_SPREAD,
    INPUT_GAIN,
    KERNEL_UNIT,
    OUTER_CHANNELS,
    decoder_filters,
    encoder_filters,
)
from .architecture import Architecture
from .forward import intensity
from .fourier import UnrolledFourierNetwork
from .unrolled import UnrolledNetwork

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
    "softplus": F.softplus,
    "relu": torch.relu,
}


class _Convolution(nn.Conv2d):
    """3×3 with a kernel of order one, which is divided by the root of its fan-in where it is applied.

    Adam moves all weights alike, however many there are to a sum. With small weights to large sums, a few
    steps of the widest layers went so far that the amplitude was at its end, without a gradient to come back
    by (after Karras et al., arXiv 1710.10196, 2018).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)
        self.gain = 1 / (KERNEL_UNIT * math.sqrt(9 * channels_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=1)

    def start(self, deviation: float, bias: float = 0.0) -> None:
        """A fresh kernel of that standard deviation, in its unit, and bias."""
        nn.init.normal_(self.weight, std=deviation * KERNEL_UNIT)
        assert self.bias is not None
        nn.init.constant_(self.bias, bias)


def _double_conv(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        _Convolution(channels_in, channels_out),
        nn.ReLU(),
        _Convolution(channels_out, channels_out),
        nn.ReLU(),
    ]


def _up_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(*_double_conv(channels_in, channels_out), nn.Upsample(scale_factor=2))


class _Decoder(nn.Module):
    """Features of 8 × 8 pixels to one real (B, C, N, N) map, before its activation."""

    def __init__(self, config: ModelConfig, channels_in: int) -> None:
        super().__init__()
        scale = config.n_filters_scale
        filters = [channels_in, *(f * scale for f in decoder_filters(config.N))]
        self.blocks = nn.Sequential(*(_up_block(a, b) for a, b in itertools.pairwise(filters)))
        self.pad = config.N // 4 if config.pad_object else 0
        outer = config.pad_object and config.probe_big
        last = filters[-1]
        if not config.pad_object:
            self.blocks.append(_up_block(last, last))
        self.inner = _Convolution(last - OUTER_CHANNELS if outer else last, config.channels)
        self.outer = (
            nn.Sequential(
                _up_block(OUTER_CHANNELS, OUTER_CHANNELS),
                _Convolution(OUTER_CHANNELS, config.channels),
            )
            if outer
            else None
        )

    def heads(self) -> list[_Convolution]:
        """The last convolutions, of the centre and of the border if there is one."""
        outer = [] if self.outer is None else [self.outer[-1]]
        return [head for head in (self.inner, *outer) if isinstance(head, _Convolution)]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The central map and, with ``probe_big``, the full-size map of which only the border is used."""
        x = self.blocks(features)
        if self.outer is None:
            return self.inner(x), None
        return self.inner(x[:, :-OUTER_CHANNELS]), self.outer(x[:, -OUTER_CHANNELS:])


class ConvolutionalNetwork(Architecture):
    """The ``cnn`` architecture: one encoder, two decoders (amplitude and phase), after Hoidn et al. (2023).

    With ``pad_object`` the object is reconstructed in the central N/2 × N/2 pixels and zero-padded;
    ``probe_big`` adds a low-resolution border, so that the probe's tails see an object too.
    """

    border: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        scale = config.n_filters_scale
        filters = [config.channels, *(f * scale for f in encoder_filters(config.N))]
        self.encoder = nn.Sequential(
            *(nn.Sequential(*_double_conv(a, b), nn.MaxPool2d(2)) for a, b in itertools.pairwise(filters))
        )
        self.amplitude = _Decoder(config, filters[-1])
        self.phase = _Decoder(config, filters[-1])
        self.activation = _ACTIVATIONS[config.amp_activation]
        self.pad = self.amplitude.pad
        border = torch.ones(config.N, config.N)
        inside = slice(self.pad, config.N - self.pad)
        border[inside, inside] = 0.0
        self.register_buffer("border", border, persistent=False)
        for module in self.modules():
            if isinstance(module, _Convolution):
                # variance-preserving through ReLU: PyTorch's default shrinks the signal six-fold a block,
                # which is how deep (N ≥ 128) encoders end up giving one patch for every pattern
                module.start(math.sqrt(2))
        for decoder, bias in ((self.amplitude, AMPLITUDE_BIAS[config.amp_activation]), (self.phase, 0.0)):
            for head in decoder.heads():
                head.start(HEAD_SPREAD, bias)

    def forward(self, amplitude: Tensor, offsets: Tensor, probe: Tensor, good_pixels: Tensor) -> Tensor:
        """See :mod:`.architecture`; this network uses ``amplitude`` and ``probe``."""
        features = self.encoder(self._centred(amplitude, probe))
        magnitude = self._assemble(self.amplitude(features), lambda x: AMPLITUDE_UNIT * self.activation(x))
        phase = self._assemble(self.phase(features), lambda x: math.pi * torch.tanh(x))
        magnitude, phase = magnitude.float(), phase.float()
        # not torch.polar: its gradient has the wrong sign where the modulus is negative, as swish lets it be
        return torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))

    def _centred(self, amplitude: Tensor, probe: Tensor) -> Tensor:
        """What tells patterns apart: their amplitudes less those of an empty object.

        All patterns of a scan are much like the one of its probe. A network that is given them as they are
        starts out giving nearly the same patch for all, and may never do anything else.
        """
        probe, seen = probe.detach(), amplitude  # the probe is to be learnt from the forward model alone
        if probe.device.type != "mps":  # which has no double precision
            # the small difference of large values, by which rounding would decide between pixels that are
            # almost equal, and every engine rounds its own way
            probe, seen = probe.to(torch.complex128), seen.double()
        return (INPUT_GAIN * (seen - intensity(probe).sqrt())).to(amplitude.dtype)

    def _assemble(self, maps: tuple[Tensor, Tensor | None], activation: Callable[[Tensor], Tensor]) -> Tensor:
        inner, outer = maps
        result = F.pad(activation(inner), (self.pad,) * 4)
        if outer is not None:
            result = result + self.border * activation(outer)
        return result


def build_network(config: ModelConfig) -> Architecture:
    """The network that ``config.architecture`` names, with fresh weights."""
    architectures: dict[str, type[Architecture]] = {
        "cnn": ConvolutionalNetwork,
        "unrolled": UnrolledNetwork,
        "unrolled_fourier": UnrolledFourierNetwork,
    }
    network = architectures[config.architecture](config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # those on the CPU are a tenth to a third faster with channels last
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
