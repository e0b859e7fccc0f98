"""The ``unrolled_fourier`` architecture: ``unrolled`` with Fourier layers in the place of its U-Nets.

What is wrong with an object after a few steps of a solver may be wrong all over it, as the twin image is: a
Fourier layer sees a whole region at once, where a convolution sees a few pixels.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from ...config import ModelConfig
from ..hyperparameters import FOURIER_LAYERS, FOURIER_WIDTH, MODES
from .architecture import Architecture, Tensor
from .unrolled import UnrolledNetwork, like_pytorch


class FourierLayer:
    """x + FF(near(x) + Σ over both axes of a few modes along it, mixed between channels).

    After the factorised Fourier layers of Tran et al., arXiv 2111.13802 (2023), with a convolution beside
    them. The variable ``mixing`` is (2, 2, width, width, MODES): axis (along rows, along columns), real and
    imaginary part, channel from, channel to.
    """

    def __init__(self, network: Architecture, name: str, width: int) -> None:
        self.mixing = network.weight(
            f"{name}.mixing",
            (2, 2, width, width, MODES),
            keras.initializers.RandomNormal(stddev=1 / math.sqrt(2 * width)),
        )
        self.near = network.convolution(f"{name}.near", width, width, **like_pytorch(9 * width))
        self.out = network.convolution(f"{name}.out", width, width, size=1, **like_pytorch(width))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, R, R, width) to the same."""
        whole, mixing = tf.cast(x, tf.float32), tf.convert_to_tensor(self.mixing)
        basis = _basis(tf.shape(x)[2])
        along = _mixed(whole, mixing[0], basis)
        across = tf.transpose(_mixed(tf.transpose(whole, (0, 2, 1, 3)), mixing[1], basis), (0, 2, 1, 3))
        near = self.near(x)
        return x + self.out(tf.nn.relu(near + tf.cast(along + across, near.dtype)))


def _mixed(x: Tensor, mixing: Tensor, basis: tuple[Tensor, Tensor]) -> Tensor:
    """The modes of (B, R, R, width) along its rows, mixed, as they are in the region."""
    cosine, sine = basis
    take, mix, give = "bhwi,wk->bhki", "bhki,iok->bhko", "bhko,wk->bhwo"
    real, imaginary = tf.einsum(take, x, cosine), -tf.einsum(take, x, sine)
    mixed_real = tf.einsum(mix, real, mixing[0]) - tf.einsum(mix, imaginary, mixing[1])
    mixed_imaginary = tf.einsum(mix, real, mixing[1]) + tf.einsum(mix, imaginary, mixing[0])
    twice = tf.constant([1.0] + [2.0] * (MODES - 1))  # each but the first stands for its conjugate, too
    return tf.einsum(give, mixed_real, twice * cosine) - tf.einsum(give, mixed_imaginary, twice * sine)


def _basis(size: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the first modes, (R, MODES): so few are quicker than a transform of all."""
    turns = (tf.range(size)[:, None] * tf.range(MODES)) % size
    edge = tf.cast(size, tf.float32)
    angle = tf.cast(turns, tf.float32) * (2 * math.pi / edge)
    return tf.cos(angle) / tf.sqrt(edge), tf.sin(angle) / tf.sqrt(edge)


class FourierCorrection:
    """Fourier layers between two convolutions, the last of which starts at zero, to correct nothing."""

    def __init__(
        self, network: Architecture, name: str, channels_in: int, channels_out: int, width: int
    ) -> None:
        self.into = network.convolution(f"{name}.into", channels_in, width, **like_pytorch(9 * channels_in))
        self.layers = [
            FourierLayer(network, f"{name}.layers.{number}", width) for number in range(FOURIER_LAYERS)
        ]
        self.out = network.convolution(f"{name}.out", width, channels_out, kernel_initializer="zeros")

    def __call__(self, x: Tensor) -> Tensor:
        """(B, R, R, channels_in) to (B, R, R, channels_out)."""
        x = self.into(x)
        for layer in self.layers:
            x = layer(x)
        return self.out(tf.nn.relu(x))


class UnrolledFourierNetwork(UnrolledNetwork):
    """See the module's docstring; called as every :class:`.Architecture`."""

    def correction(self, name: str, config: ModelConfig) -> FourierCorrection:
        return FourierCorrection(self, name, 7, 2, FOURIER_WIDTH * config.n_filters_scale)
