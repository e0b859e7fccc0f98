"""The ``unrolled`` architecture: a few steps of a ptychographic solver, with learnt steps and corrections.

A group of C neighbouring patterns shares one complex object on a square region. Each step projects the exit
waves of the group onto the measured amplitudes, merges the resulting updates (weighted by illumination), and
moves the object along them with a learnt step and momentum; after some of the steps a small U-Net, which sees
object, update and illumination, corrects the object. Overlap is thereby used inside the network: what one
frame barely determines, the large-scale phase, is tied down by its neighbours.

``ModelConfig.reflections`` has the steps start from what a longer search with the exit waves has found.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import keras
import tensorflow as tf

from ...config import ModelConfig
from ..hyperparameters import (
    AMPLITUDE_FLOOR,
    FIRST_MOMENTUM,
    FIRST_STEP,
    LEVELS,
    REFLECTION_RELAXATION,
    START_TILT,
    STEPS,
    STEPS_PER_CORRECTION,
    WEIGHT_FLOOR,
    WIDTH,
)
from .architecture import DATA_FORMAT, Architecture, Tensor, chain
from .forward import as_complex, fourier_shift, power


class CorrectionNetwork:
    """U-Net of conv3×3–ReLU pairs whose last layer starts at zero: at first it corrects nothing."""

    def __init__(
        self, network: Architecture, name: str, channels_in: int, channels_out: int, width: int
    ) -> None:
        widths = [width * 2**level for level in range(LEVELS)]
        inputs = [channels_in, *widths[:-1]]
        self.down = [
            _block(network, f"{name}.down.{level}", a, b)
            for level, (a, b) in enumerate(zip(inputs, widths, strict=True))
        ]
        self.up = [
            _block(network, f"{name}.up.{level}", a + b, a)
            for level, (a, b) in enumerate(itertools.pairwise(widths))
        ]
        self.out = network.convolution(f"{name}.out", width, channels_out, kernel_initializer="zeros")
        self.halve = keras.layers.AveragePooling2D(
            2, data_format=DATA_FORMAT, dtype=network.convolution_dtype
        )
        self.double = keras.layers.UpSampling2D(2, data_format=DATA_FORMAT, dtype=network.convolution_dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, R, R, channels_in) to (B, R, R, channels_out); R is a multiple of 2^(LEVELS-1)."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = chain(block, self.halve(x) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = chain(self.up[level], tf.concat((skips[level], self.double(x)), -1))
        return self.out(x)


def _block(
    network: Architecture, name: str, channels_in: int, channels_out: int
) -> list[keras.layers.Conv2D]:
    # PyTorch's numbering: there, the activations between are layers too
    layers = []
    for number, channels in ((0, channels_in), (2, channels_out)):
        start = like_pytorch(9 * channels)
        layers.append(network.convolution(f"{name}.{number}", channels, channels_out, relu=True, **start))
    return layers


def like_pytorch(fan_in: int) -> dict[str, keras.initializers.Initializer]:
    """Initializers of a convolution, by Keras' names, that are PyTorch's defaults."""
    bound = 1 / math.sqrt(fan_in)
    kernel, bias = (keras.initializers.RandomUniform(-bound, bound) for _ in range(2))
    return {"kernel_initializer": kernel, "bias_initializer": bias}


class GroupRegion:
    """Where the patches of each group lie on its region, to whole pixels; the rest moves the probe.

    Parameters
    ----------
    offsets
        (B, C, 2) ``[x, y]`` from the centre of the group, pixels; or None for groups of one, at rest: their
        regions are their patches.
    size
        N, the edge of a patch.
    """

    def __init__(self, offsets: Tensor | None, size: int) -> None:
        self.alone = offsets is None
        self.patch_size = size
        if offsets is None:
            return
        whole = tf.round(offsets)
        self.rest = offsets - whole
        reach = tf.cast(tf.reduce_max(tf.abs(whole)), tf.int32)
        multiple = 2 ** (LEVELS - 1)
        edge = -(-(size + 2 * reach) // multiple) * multiple
        start = tf.cast(whole, tf.int32) + (edge - size) // 2
        axis = tf.range(size)
        columns, rows = start[..., 0, None] + axis, start[..., 1, None] + axis
        groups = tf.shape(offsets)[0]
        first = tf.range(groups)[:, None, None, None] * edge**2
        self._index = first + rows[..., :, None] * edge + columns[..., None, :]
        self._shape = (groups, edge, edge)

    def cut(self, region: Tensor) -> Tensor:
        """(B, R, R) to (B, C, N, N)."""
        return region[:, None] if self.alone else _adjoint(self._gather, self._scatter)(region)

    def accumulate(self, patches: Tensor) -> Tensor:
        """(B, C, N, N) to (B, R, R): the sum of the patches, each where it lies."""
        return patches[:, 0] if self.alone else _adjoint(self._scatter, self._gather)(patches)

    def _gather(self, region: Tensor) -> Tensor:
        return tf.gather(tf.reshape(region, (-1,)), self._index)

    def _scatter(self, patches: Tensor) -> Tensor:
        groups, edge, _ = self._shape
        return tf.reshape(tf.math.unsorted_segment_sum(patches, self._index, groups * edge**2), self._shape)


def _adjoint(
    linear: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """``linear`` with its adjoint for gradient: TensorFlow's own goes through sparse slices."""
    differentiable: Callable[[Tensor], Tensor] = tf.custom_gradient(lambda x: (linear(x), adjoint))
    return differentiable


class UnrolledNetwork(Architecture):
    """See the module's docstring; called as every :class:`Architecture`."""

    one_object = True

    def __init__(self, config: ModelConfig, dtype: str = "float32") -> None:
        super().__init__(dtype)
        self.joint = config.object_big
        self.reflections = config.reflections
        self.step = self._per_step("step", FIRST_STEP)
        self.momentum = self._per_step("momentum", FIRST_MOMENTUM)
        self.corrections = [
            self.correction(f"corrections.{number}", config)
            for number in range(STEPS // STEPS_PER_CORRECTION)
        ]

    def correction(self, name: str, config: ModelConfig) -> Callable[[Tensor], Tensor]:
        """A fresh one: of object, update, velocity and light, (B, R, R, 7), to (B, R, R, 2), 0 at first."""
        return CorrectionNetwork(self, name, 7, 2, WIDTH * config.n_filters_scale)

    def _per_step(self, name: str, value: float) -> keras.Variable:
        constant = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(STEPS,), initializer=constant)

    def physics_variables(self) -> list[keras.Variable]:
        return [self.step, self.momentum]

    def call(self, amplitude: Tensor, offsets: Tensor, probe: Tensor, good_pixels: Tensor) -> Tensor:
        patches, rest = self.on_pixels(amplitude, offsets, probe, good_pixels)
        return fourier_shift(patches, -rest) if self.joint else patches

    def on_pixels(
        self, amplitude: Tensor, offsets: Tensor, probe: Tensor, good_pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        _, n, _, c = amplitude.shape
        measured = tf.transpose(amplitude, (0, 3, 1, 2))
        if self.joint:
            region = GroupRegion(offsets, n)
            rest = region.rest
            moved_probe = fourier_shift(probe, rest[:, :, None])
        else:  # every pattern is a group of its own
            region = GroupRegion(None, n)
            rest = tf.zeros_like(offsets)
            measured = tf.reshape(measured, (-1, 1, n, n))
            moved_probe = probe[None, None] if len(probe.shape) == 3 else tf.repeat(probe, c, 0)
            if len(good_pixels.shape) == 4:
                good_pixels = tf.repeat(good_pixels, c, 0)
        patches = region.cut(self._solve(measured, region, moved_probe, good_pixels))
        return tf.reshape(patches, (-1, c, n, n)), rest

    def _solve(self, amplitude: Tensor, region: GroupRegion, probe: Tensor, good_pixels: Tensor) -> Tensor:
        """Object of each group, (B, R, R) complex; ``probe`` is (B, C, modes, N, N), moved by the rest."""
        # the norms of the two transforms of a step cancel, but for the one of the modelled intensity
        norm = 1 / amplitude.shape[-1] ** 2
        measured = tf.signal.ifftshift(amplitude, axes=(-2, -1))[:, :, None]
        good = tf.signal.ifftshift(good_pixels, axes=(-2, -1))
        if len(good.shape) == 4:
            good = good[:, :, None]
        illumination = region.accumulate(tf.reduce_sum(power(probe), 2))
        brightest = tf.reduce_max(illumination, (-2, -1), keepdims=True)
        damping = as_complex(1 / (illumination + WEIGHT_FLOOR * brightest))
        light = tf.sqrt(illumination / brightest + AMPLITUDE_FLOOR)
        steps, momenta = (
            tf.unstack(as_complex(tf.convert_to_tensor(rates))) for rates in (self.step, self.momentum)
        )

        def exit_waves(obj: Tensor, probe: Tensor) -> Tensor:
            return probe * region.cut(obj)[:, :, None]

        def lacking(waves: Tensor) -> Tensor:
            far = tf.signal.fft2d(waves)
            modelled = norm * tf.reduce_sum(power(far), 2, keepdims=True) + AMPLITUDE_FLOOR
            return tf.signal.ifft2d(far * as_complex(good * (measured * tf.math.rsqrt(modelled) - 1)))

        def merged(waves: Tensor, probe: Tensor, damping: Tensor) -> Tensor:
            return region.accumulate(tf.reduce_sum(tf.math.conj(probe) * waves, 2)) * damping

        # probe and damping are arguments, so that what is computed again has gradients for them
        def moved(
            step: Tensor, momentum: Tensor, obj: Tensor, velocity: Tensor, probe: Tensor, damping: Tensor
        ) -> list[Tensor]:
            update = merged(lacking(exit_waves(obj, probe)), probe, damping)
            velocity = momentum * velocity + update
            return [obj + step * velocity, velocity, update]

        def corrected(
            network: Callable[[Tensor], Tensor], obj: Tensor, velocity: Tensor, update: Tensor, light: Tensor
        ) -> list[Tensor]:
            complex_planes = (obj - 1, update, velocity)
            planes = [part(z) for z in complex_planes for part in (tf.math.real, tf.math.imag)]
            planes.append(tf.broadcast_to(light, tf.shape(planes[0])))
            correction = network(tf.stack(planes, -1))
            # complex numbers have no half precision to match that of a network under a mixed policy
            return [obj + tf.complex(*tf.unstack(tf.cast(correction, tf.float32), axis=-1))]

        run = _computed_again if self.computes_again else _kept
        obj = tf.ones_like(damping)
        if self.reflections:
            obj = tf.broadcast_to(obj, (tf.shape(amplitude)[0], *tf.unstack(tf.shape(obj)[1:])))
            obj = _reflected(
                self.reflections,
                obj * _tilt(region, tf.shape(obj)[-1]),
                lambda obj: exit_waves(obj, probe),
                lacking,
                lambda waves: merged(waves, probe, damping),
            )
        velocity = tf.zeros_like(obj)
        for step in range(STEPS):
            obj, velocity, update = run(moved, steps[step], momenta[step], obj, velocity, probe, damping)
            if (step + 1) % STEPS_PER_CORRECTION == 0:
                network = self.corrections[step // STEPS_PER_CORRECTION]
                (obj,) = run(functools.partial(corrected, network), obj, velocity, update, light)
        return obj


def _tilt(region: GroupRegion, edge: Tensor) -> Tensor:
    """The amplitude that reflections start from, (R, R) complex; the same on regions of any size."""
    axis = tf.cast(tf.range(edge), tf.float32) - tf.cast(edge - 1, tf.float32) / 2
    along_x, along_y = (tilt * axis / (region.patch_size / 2) for tilt in START_TILT)
    return as_complex(1 + along_x + along_y[:, None])


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

    def reflected(waves: Tensor) -> list[Tensor]:
        measured = waves + lacking(waves)
        mirrored = (1 + REFLECTION_RELAXATION) * measured - waves
        return [waves + exit_waves(merged(mirrored)) - REFLECTION_RELAXATION * measured]

    start = tf.stop_gradient(exit_waves(obj))
    # a loop, not so many copies of it in a graph
    (waves,) = tf.while_loop(lambda waves: True, reflected, [start], maximum_iterations=count)
    return tf.stop_gradient(merged(waves + lacking(waves)))


def _kept(function: Callable[..., list[Tensor]], *values: Tensor) -> list[Tensor]:
    return function(*values)


def _computed_again(function: Callable[..., list[Tensor]], *values: Tensor) -> list[Tensor]:
    """As ``function(*values)``; what its gradients need is computed once more for them.

    The first of the results is complex. It is when the gradient of the first one is there that a graph
    computes again, and TensorFlow can tell that of real numbers only.
    """

    def in_planes(*values: Tensor) -> list[Tensor]:
        first, *others = function(*values)
        return [tf.stack((tf.math.real(first), tf.math.imag(first))), *others]

    first, *others = tf.recompute_grad(in_planes)(*values)
    return [tf.complex(first[0], first[1]), *others]
