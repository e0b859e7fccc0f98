"""Batches of grouped data as ``tf.data`` datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ...config import ExecutionConfig
from ...data.container import PtychoDataContainer


class Order:
    """In which order a training goes through its groups: in each epoch in another one.

    The shuffle of ``tf.data`` counts how many iterators have been made of a dataset, of which Keras makes as
    many as it likes. Here the order follows from the epoch alone, so that a training that was interrupted
    goes on as it would have.

    Parameters
    ----------
    seed
        Of all orders; None: each is drawn anew.

    Attributes
    ----------
    epoch
        The epoch that is about to be gone through, from 0; set before it begins.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self.epoch = 0

    def of(self, count: int) -> tf.data.Dataset:
        """The numbers 0 to ``count`` - 1 in the order of the epoch in which an iterator begins."""

        def draw() -> Any:
            seed = None if self.seed is None else (self.seed, self.epoch)
            return np.random.default_rng(seed).permutation(count).astype(np.int64)

        def numbers(_: tf.Tensor) -> tf.data.Dataset:
            drawn = tf.ensure_shape(tf.numpy_function(draw, [], tf.int64), (count,))
            return tf.data.Dataset.from_tensor_slices(drawn)

        dataset = tf.data.Dataset.range(1).flat_map(numbers)
        return dataset.apply(tf.data.experimental.assert_cardinality(count))


def build_dataset(
    container: PtychoDataContainer,
    input_scale: float,
    batch_size: int,
    execution: ExecutionConfig,
    *,
    with_object: bool = False,
    order: Order | None = None,
    chosen: NDArray[np.int64] | None = None,
) -> tf.data.Dataset:
    """The groups of ``container``, gathered a batch at a time, in their own order or in ``order``.

    ``chosen`` are the numbers of those groups that are wanted, in their own order; None stands for all.

    A batch is a dictionary of ``amplitude`` (B, N, N, C) float32, normalised by ``input_scale`` and the
    exposure of each pattern; ``offsets`` (B, C, 2) float32; ``exposure`` (B, C) float32, unless all are 1;
    ``probe`` (B, modes, N, N) complex64 in the scale of the amplitudes, where the container has several;
    ``good`` (B, N, N) float32, where bad pixels differ; and, where asked for, ``object`` (B, C, N, N)
    complex64.

    Raises
    ------
    ValueError
        If the objects are asked for and the container has none.
    """
    if with_object:
        container.patches_for([0])  # if there are none, what it raises would be buried in a graph's error
    exposed = container.exposures_for([0], input_scale) is not None
    size, channels = container.N, container.gridsize**2

    def gather(numbers: Any) -> list[Any]:
        offsets = container.coords_relative[numbers, 0].transpose(0, 2, 1)
        amplitude = container.normalised(numbers, input_scale)
        batch: list[Any] = [amplitude, np.ascontiguousarray(offsets, np.float32)]
        if exposed:
            batch.append(container.exposures_for(numbers, input_scale))
        if container.probes is not None:
            batch.append(container.probes_for(numbers) * np.float32(input_scale))
        if container.masks is not None:
            batch.append(container.good_for(numbers))
        if with_object:
            batch.append(np.ascontiguousarray(container.patches_for(numbers).transpose(0, 3, 1, 2)))
        return batch

    shapes: dict[str, tuple[int | None, ...]] = {
        "amplitude": (None, size, size, channels),
        "offsets": (None, channels, 2),
    }
    types = [tf.float32, tf.float32]
    if exposed:
        shapes["exposure"] = (None, channels)
        types.append(tf.float32)
    if container.probes is not None:
        shapes["probe"] = (None, *container.probes.shape[1:])
        types.append(tf.complex64)
    if container.masks is not None:
        shapes["good"] = (None, size, size)
        types.append(tf.float32)
    if with_object:
        shapes["object"] = (None, channels, size, size)
        types.append(tf.complex64)

    def load(numbers: tf.Tensor) -> dict[str, tf.Tensor]:
        # numpy gathers: the scan is in memory once, and not a second time as a constant of a graph
        arrays = tf.numpy_function(gather, [numbers], types, stateful=False)
        return {
            name: tf.ensure_shape(array, shape)
            for (name, shape), array in zip(shapes.items(), arrays, strict=True)
        }

    dataset = tf.data.Dataset.from_tensor_slices(np.arange(len(container)) if chosen is None else chosen)
    if order is not None:
        dataset = order.of(len(container))
    workers = execution.num_workers
    dataset = dataset.batch(batch_size).map(load, num_parallel_calls=workers or None)
    dataset = dataset.prefetch((execution.prefetch_factor or 2) * max(1, workers))
    options = tf.data.Options()
    # there is nothing to tune, and the thread that would can hold up whoever lets go of a pass for a minute
    options.autotune.enabled = False
    return dataset.with_options(options)
