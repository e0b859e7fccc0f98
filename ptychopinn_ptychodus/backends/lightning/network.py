"""The architectures by name, and the convolutional one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import ModelConfig
from ..recipe import DECODER_FILTERS, ENCODER_FILTERS, OUTER_CHANNELS
from .architecture import Architecture
from .unrolled import UnrolledNetwork

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
    "softplus": F.softplus,
    "relu": torch.relu,
}


def _double_conv(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.ReLU(),
    ]


def _up_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(*_double_conv(channels_in, channels_out), nn.Upsample(scale_factor=2))


class _Decoder(nn.Module):
    """Features at N/8 … N/2 resolution to one real (B, C, N, N) map, before its activation."""

    def __init__(self, config: ModelConfig, channels_in: int) -> None:
        super().__init__()
        scale = config.n_filters_scale
        filters = [channels_in, *(f * scale for f in DECODER_FILTERS[config.N])]
        self.blocks = nn.Sequential(*(_up_block(a, b) for a, b in itertools.pairwise(filters)))
        self.pad = config.N // 4 if config.pad_object else 0
        outer = config.pad_object and config.probe_big
        last = filters[-1]
        if not config.pad_object:
            self.blocks.append(_up_block(last, last))
        self.inner = nn.Conv2d(last - OUTER_CHANNELS if outer else last, config.channels, 3, padding=1)
        self.outer = (
            nn.Sequential(
                _up_block(OUTER_CHANNELS, OUTER_CHANNELS),
                nn.Conv2d(OUTER_CHANNELS, config.channels, 3, padding=1),
            )
            if outer
            else None
        )

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
        filters = [config.channels, *(f * scale for f in ENCODER_FILTERS[config.N])]
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
            if isinstance(module, nn.Conv2d):
                # variance-preserving through ReLU: PyTorch's default shrinks the signal six-fold a block,
                # which is how deep (N ≥ 128) encoders end up giving one patch for every pattern
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for decoder in (self.amplitude, self.phase):
            nn.init.normal_(decoder.inner.weight, std=0.1 / math.sqrt(9 * decoder.inner.in_channels))

    def forward(self, amplitude: Tensor, offsets: Tensor, probe: Tensor, good_pixels: Tensor) -> Tensor:
        """See :mod:`.architecture`; this network uses ``amplitude`` alone."""
        features = self.encoder(amplitude)
        magnitude = self._assemble(self.amplitude(features), self.activation)
        phase = self._assemble(self.phase(features), lambda x: math.pi * torch.tanh(x))
        magnitude, phase = magnitude.float(), phase.float()
        # not torch.polar: its gradient has the wrong sign where the modulus is negative, as swish lets it be
        return torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))

    def _assemble(self, maps: tuple[Tensor, Tensor | None], activation: Callable[[Tensor], Tensor]) -> Tensor:
        inner, outer = maps
        result = F.pad(activation(inner), (self.pad,) * 4)
        if outer is not None:
            result = result + self.border * activation(outer)
        return result


def build_network(config: ModelConfig) -> Architecture:
    """The network that ``config.architecture`` names, with fresh weights."""
    architectures: dict[str, type[Architecture]] = {"cnn": ConvolutionalNetwork, "unrolled": UnrolledNetwork}
    network = architectures[config.architecture](config)
    # convolutions on the CPU are a tenth to a third faster with channels last
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
