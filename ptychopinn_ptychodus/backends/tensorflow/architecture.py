"""What every architecture has in common: how it is called, and what it tells the module about itself.

A network is called as ``network(amplitude, offsets, probe, good_pixels)`` with

- ``amplitude``: (B, N, N, C) float32, normalised, zero frequency at (N/2, N/2); the one tensor with its
  channels last, as the convolutions want it;
- ``offsets``: (B, C, 2) float32, ``[x, y]`` of each pattern from the centre of its group, pixels;
- ``probe``: (modes, N, N) complex64, in the scale of the amplitudes (``Σ|P|² ≈ (N/2)²``), or
  (B, 1, modes, N, N) where groups have probes of their own;
- ``good_pixels``: (N, N) float32, or (B, 1, N, N) where groups have bad pixels of their own; 0 where an
  amplitude was not measured but filled from its neighbours;

and returns (B, C, N, N) complex64 patches, each centred on its pattern's position. B may be unknown when a
graph is traced; C and N are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

Tensor: TypeAlias = tf.Tensor

DATA_FORMAT = "channels_last"
"""Said to every layer: Keras' own default can be changed by a file in the user's home."""


class Architecture(keras.layers.Layer):
    """Base of the networks; its variables exist as soon as it does.

    Parameters
    ----------
    dtype
        Keras dtype policy of the convolutions. All else is float32 and complex64 whatever it says.
    """

    one_object: ClassVar[bool] = False
    """Whether a group's patches are cut from one object already, so that merging would only blur them."""

    convolution_layer: ClassVar[type[keras.layers.Conv2D]] = keras.layers.Conv2D
    """What :meth:`convolution` makes."""

    def __init__(self, dtype: str = "float32") -> None:
        # a policy of half precision would round the offsets before call() sees them
        super().__init__(dtype="float32", autocast=False)
        self.convolution_dtype = dtype
        self.convolutions: dict[str, keras.layers.Conv2D] = {}
        self.weights_by_name: dict[str, keras.Variable] = {}
        self.computes_again = False
        """Whether what gradients need of a network's steps is computed once more for them rather than kept.

        It is obeyed by networks that have steps, when they are traced."""
        self.built = True

    def convolution(
        self,
        name: str,
        channels_in: int,
        channels_out: int,
        *,
        size: int = 3,
        relu: bool = False,
        **initializers: Any,
    ) -> keras.layers.Conv2D:
        """A convolution that is one of this network's, under the name that it has in PyTorch's."""
        layer = self.convolution_layer(
            channels_out,
            size,
            padding="same",
            data_format=DATA_FORMAT,
            activation="relu" if relu else None,
            dtype=self.convolution_dtype,
            **initializers,
        )
        layer.build((None, None, None, channels_in))
        self.convolutions[name] = layer
        return layer

    def weight(
        self, name: str, shape: tuple[int, ...], initializer: keras.initializers.Initializer
    ) -> keras.Variable:
        """Other weights of this network, likewise; of any number of axes but 4, which stands for kernels."""
        variable = self.add_weight(name=name.rpartition(".")[2], shape=shape, initializer=initializer)
        self.weights_by_name[name] = variable
        return variable

    def physics_variables(self) -> list[keras.Variable]:
        """Variables with a physical meaning (step sizes, say), which learn at a faster rate."""
        return []

    def named_variables(self) -> dict[str, keras.Variable]:
        """Every variable, by the name of its counterpart in the PyTorch network's ``state_dict()``."""
        named = {variable.name: variable for variable in self.physics_variables()}
        for name, layer in self.convolutions.items():
            named |= {f"{name}.weight": layer.kernel, f"{name}.bias": layer.bias}
        return named | self.weights_by_name

    def on_pixels(
        self, amplitude: Tensor, offsets: Tensor, probe: Tensor, good_pixels: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Patches as the forward model wants them, and by how much it has to move the probe for each.

        A network that works on whole pixels returns its patches before they are moved to their exact
        positions, and the remainders (B, C, 2) ``[x, y]``: it is the smooth probe that bears to be moved by a
        fraction of a pixel. Others return what calling them returns, and None.
        """
        return self(amplitude, offsets, probe, good_pixels), None


def chain(layers: Iterable[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """``x`` through one layer after the other."""
    for layer in layers:
        x = layer(x)
    return x


def to_portable(variable: keras.Variable) -> NDArray[np.float32]:
    """A copy of a variable as PyTorch would hold it: kernels as (out, in, height, width)."""
    value = np.array(variable.numpy())
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value


def from_portable(variable: keras.Variable, array: ArrayLike) -> None:
    """Set a variable to what :func:`to_portable` gave; ``ValueError`` if the shapes differ."""
    value = np.asarray(array)
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    if value.shape != tuple(variable.shape):
        raise ValueError(
            f"An array of shape {np.shape(array)} does not fit variable {variable.path!r}, which is "
            f"{tuple(variable.shape)}; kernels are (out, in, height, width) outside and "
            "(height, width, in, out) inside."
        )
    variable.assign(value)
