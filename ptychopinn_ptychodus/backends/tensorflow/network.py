"""The architectures by name, and the convolutional one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

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
from .architecture import DATA_FORMAT, Architecture, Tensor, chain
from .forward import intensity
from .fourier import UnrolledFourierNetwork
from .unrolled import UnrolledNetwork

Layers = list[keras.layers.Layer]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": tf.sigmoid,
    "swish": tf.nn.silu,
    "softplus": tf.nn.softplus,
    "relu": tf.nn.relu,
}


class _Convolution(keras.layers.Conv2D):
    """3×3 with a kernel of order one, which is divided by the root of its fan-in where it is applied.

    Adam moves all weights alike, however many there are to a sum. With small weights to large sums, a few
    steps of the widest layers went so far that the amplitude was at its end, without a gradient to come back
    by (after Karras et al., arXiv 1710.10196, 2018).
    """

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return super().convolution_op(inputs, kernel / (KERNEL_UNIT * math.sqrt(9 * kernel.shape[-2])))


def _conv(
    network: Architecture, name: str, channels_in: int, channels_out: int, *, relu: bool = False
) -> keras.layers.Conv2D:
    # variance-preserving through ReLU: Keras' default loses half of the signal's variance a layer, which is
    # how deep (N ≥ 128) encoders end up giving one patch for every pattern
    kernel = keras.initializers.RandomNormal(stddev=math.sqrt(2) * KERNEL_UNIT)
    return network.convolution(name, channels_in, channels_out, relu=relu, kernel_initializer=kernel)


def _head(
    network: Architecture, name: str, channels_in: int, channels_out: int, bias: float
) -> keras.layers.Conv2D:
    return network.convolution(
        name,
        channels_in,
        channels_out,
        kernel_initializer=keras.initializers.RandomNormal(stddev=HEAD_SPREAD * KERNEL_UNIT),
        bias_initializer=keras.initializers.Constant(bias),
    )


def _double_conv(network: Architecture, name: str, channels_in: int, channels_out: int) -> Layers:
    # numbered as in PyTorch, where the activations between are layers too
    return [
        _conv(network, f"{name}.0", channels_in, channels_out, relu=True),
        _conv(network, f"{name}.2", channels_out, channels_out, relu=True),
    ]


def _up_block(network: Architecture, name: str, channels_in: int, channels_out: int) -> Layers:
    upsampling = keras.layers.UpSampling2D(2, data_format=DATA_FORMAT, dtype=network.convolution_dtype)
    return [*_double_conv(network, name, channels_in, channels_out), upsampling]


class _Decoder:
    """Features of 8 × 8 pixels to one real (B, N, N, C) map, before its activation."""

    def __init__(
        self, network: Architecture, name: str, config: ModelConfig, channels_in: int, bias: float
    ) -> None:
        scale = config.n_filters_scale
        filters = [channels_in, *(f * scale for f in decoder_filters(config.N))]
        last = filters[-1]
        if not config.pad_object:
            filters.append(last)
        self.blocks: Layers = []
        for number, (a, b) in enumerate(itertools.pairwise(filters)):
            self.blocks += _up_block(network, f"{name}.blocks.{number}", a, b)
        self.pad = config.N // 4 if config.pad_object else 0
        outer = config.pad_object and config.probe_big
        channels = last - OUTER_CHANNELS if outer else last
        self.inner = _head(network, f"{name}.inner", channels, config.channels, bias)
        self.outer: Layers | None = None
        if outer:
            self.outer = [
                *_up_block(network, f"{name}.outer.0", OUTER_CHANNELS, OUTER_CHANNELS),
                _head(network, f"{name}.outer.1", OUTER_CHANNELS, config.channels, bias),
            ]

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The central map and, with ``probe_big``, the full-size map of which only the border is used."""
        x = chain(self.blocks, features)
        if self.outer is None:
            return self.inner(x), None
        inside, outside = tf.split(x, (x.shape[-1] - OUTER_CHANNELS, OUTER_CHANNELS), -1)
        return self.inner(inside), chain(self.outer, outside)


class ConvolutionalNetwork(Architecture):
    """The ``cnn`` architecture: one encoder, two decoders (amplitude and phase), after Hoidn et al. (2023).

    With ``pad_object`` the object is reconstructed in the central N/2 × N/2 pixels and zero-padded;
    ``probe_big`` adds a low-resolution border, so that the probe's tails see an object too.
    """

    convolution_layer = _Convolution

    def __init__(self, config: ModelConfig, dtype: str = "float32") -> None:
        super().__init__(dtype)
        scale = config.n_filters_scale
        filters = [config.channels, *(f * scale for f in encoder_filters(config.N))]
        self.encoder: Layers = []
        for number, (a, b) in enumerate(itertools.pairwise(filters)):
            self.encoder += _double_conv(self, f"encoder.{number}", a, b)
            self.encoder.append(keras.layers.MaxPooling2D(2, data_format=DATA_FORMAT, dtype=dtype))
        self.amplitude = _Decoder(
            self, "amplitude", config, filters[-1], AMPLITUDE_BIAS[config.amp_activation]
        )
        self.phase = _Decoder(self, "phase", config, filters[-1], 0.0)
        self.activation = _ACTIVATIONS[config.amp_activation]
        self.pad = self.amplitude.pad
        self.border = np.ones((config.N, config.N, 1), np.float32)
        inside = slice(self.pad, config.N - self.pad)
        self.border[inside, inside] = 0.0

    def call(self, amplitude: Tensor, offsets: Tensor, probe: Tensor, good_pixels: Tensor) -> Tensor:
        """See :mod:`.architecture`; this network uses ``amplitude`` and ``probe``."""
        features = chain(self.encoder, self._centred(amplitude, probe))
        magnitude = self._assemble(self.amplitude(features), lambda x: AMPLITUDE_UNIT * self.activation(x))
        phase = self._assemble(self.phase(features), lambda x: math.pi * tf.tanh(x))
        patches = tf.complex(magnitude * tf.cos(phase), magnitude * tf.sin(phase))
        return tf.transpose(patches, (0, 3, 1, 2))

    def _centred(self, amplitude: Tensor, probe: Tensor) -> Tensor:
        """What tells patterns apart: their amplitudes less those of an empty object.

        All patterns of a scan are much like the one of its probe. A network that is given them as they are
        starts out giving nearly the same patch for all, and may never do anything else.
        """
        # The probe is to be learnt from the forward model alone. In double: it is the small difference of
        # large values, by which rounding would decide between pixels that are almost equal, and every engine
        # rounds its own way.
        empty = tf.sqrt(intensity(tf.cast(tf.stop_gradient(probe), tf.complex128)))
        empty = tf.transpose(empty, (0, 2, 3, 1)) if len(empty.shape) == 4 else empty[..., None]
        return tf.cast(INPUT_GAIN * (tf.cast(amplitude, tf.float64) - empty), amplitude.dtype)

    def _assemble(self, maps: tuple[Tensor, Tensor | None], activation: Callable[[Tensor], Tensor]) -> Tensor:
        # complex numbers have no half precision to match that of a network under a mixed policy
        inner, outer = (None if x is None else activation(tf.cast(x, tf.float32)) for x in maps)
        edge = (self.pad, self.pad)
        result = tf.pad(inner, ((0, 0), edge, edge, (0, 0)))
        return result if outer is None else result + self.border * outer


def build_network(config: ModelConfig, dtype: str = "float32") -> Architecture:
    """The network that ``config.architecture`` names, with fresh weights.

    ``dtype`` is the Keras dtype policy of its convolutions: "float32", "mixed_bfloat16" or "mixed_float16".
    """
    architectures: dict[str, type[ConvolutionalNetwork | UnrolledNetwork]] = {
        "cnn": ConvolutionalNetwork,
        "unrolled": UnrolledNetwork,
        "unrolled_fourier": UnrolledFourierNetwork,
    }
    return architectures[config.architecture](config, dtype)
