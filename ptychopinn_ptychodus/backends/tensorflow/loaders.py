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

    def of(self, count: int, epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        """The numbers 0 to ``count`` - 1 in the order of ``epoch``; None: when an iterator begins."""

        def draw(*epochs: Any) -> Any:
            seed = None if self.seed is None else (self.seed, int(epochs[0]) if epochs else self.epoch)
            return np.random.default_rng(seed).permutation(count).astype(np.int64)

        def numbers(_: tf.Tensor) -> tf.data.Dataset:
            given = [] if epoch is None else [epoch]
            drawn = tf.ensure_shape(tf.numpy_function(draw, given, tf.int64), (count,))
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
    replicas: int = 1,
    own: range = range(1),
) -> tf.data.Dataset:
    """The groups of ``container``, gathered a batch at a time, in their own order or in ``order``.

    ``chosen`` are the numbers of those groups that are wanted, in their own order; None stands for all.

    A batch is a dictionary of ``amplitude`` (B, N, N, C) float32, normalised by ``input_scale`` and the
    exposure of each pattern; ``offsets`` (B, C, 2) float32; ``exposure`` (B, C) float32, unless all are 1;
    ``probe`` (B, modes, N, N) complex64 in the scale of the amplitudes, where the container has several, and
    ``shown_probe`` of the same kind, where the network is shown others; ``good`` (B, N, N) float32, where bad
    pixels differ; and, where asked for, ``object`` (B, C, N, N) complex64, with its
    ``twin`` of the same kind where a probe leaves open which of both a pattern is of, see
    :meth:`.PtychoDataContainer.twins_of`.

    Where several ``replicas`` divide the batches, there is a part of each batch for each of those that this
    process has its ``own`` numbers of, in turn, and one epoch follows another without end. A part also holds
    ``drawn`` (B,) int32, how many groups all of them have, and ``share`` (B,) float32, the part that is this
    one's. If there are fewer groups than replicas, one that has none is given a group of another, with a
    share of 0.

    Raises
    ------
    ValueError
        If the objects are asked for and the container has none.
    """
    if with_object:
        container.patches_for([0])  # if there are none, what it raises would be buried in a graph's error
    exposed = container.exposures_for([0], input_scale) is not None
    size, channels = container.N, container.gridsize**2

    def gather(drawn: Any, replica: Any) -> list[Any]:
        part = drawn[replica::replicas]
        numbers = part if len(part) else drawn[:1]
        offsets = container.coords_relative[numbers, 0].transpose(0, 2, 1)
        amplitude = container.normalised(numbers, input_scale)
        batch: list[Any] = [amplitude, np.ascontiguousarray(offsets, np.float32)]
        if exposed:
            batch.append(container.exposures_for(numbers, input_scale))
        if container.probes is not None:
            batch.append(container.probes_for(numbers) * np.float32(input_scale))
        shown = container.shown_probes_for(numbers)
        if shown is not None:
            batch.append(shown * np.float32(input_scale))
        if container.masks is not None:
            batch.append(container.good_for(numbers))
        if with_object:
            patches = np.ascontiguousarray(container.patches_for(numbers).transpose(0, 3, 1, 2))
            batch.append(patches)
            if container.has_twins:
                batch.append(container.twins_of(patches, numbers))
        if replicas > 1:
            batch.append(np.full(len(numbers), len(drawn), np.int32))
            batch.append(np.full(len(numbers), len(part) / len(drawn), np.float32))
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
    if container.shown_probes is not None:
        shapes["shown_probe"] = (None, *container.shown_probes.shape[1:])
        types.append(tf.complex64)
    if container.masks is not None:
        shapes["good"] = (None, size, size)
        types.append(tf.float32)
    if with_object:
        for name in ("object", "twin") if container.has_twins else ("object",):
            shapes[name] = (None, channels, size, size)
            types.append(tf.complex64)
    if replicas > 1:
        shapes |= {"drawn": (None,), "share": (None,)}
        types += [tf.int32, tf.float32]

    def load(drawn: tf.Tensor, replica: tf.Tensor | int = 0) -> dict[str, tf.Tensor]:
        # numpy gathers: the scan is in memory once, and not a second time as a constant of a graph
        arrays = tf.numpy_function(gather, [drawn, replica], types, stateful=False)
        return {
            name: tf.ensure_shape(array, shape)
            for (name, shape), array in zip(shapes.items(), arrays, strict=True)
        }

    def batches(epoch: tf.Tensor | None = None) -> tf.data.Dataset:
        if order is not None:
            numbers = order.of(len(container), epoch)
        else:
            numbers = tf.data.Dataset.from_tensor_slices(
                np.arange(len(container)) if chosen is None else chosen
            )
        return numbers.batch(batch_size)

    def parts(drawn: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(list(own)).map(lambda replica: (drawn, replica))

    if replicas > 1:
        # one that ends would have Keras begin another step, of which the optimiser counts a part
        dataset = tf.data.Dataset.counter().flat_map(lambda epoch: batches(epoch).flat_map(parts))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    else:
        dataset = batches()
    workers = execution.num_workers
    dataset = dataset.map(load, num_parallel_calls=workers or None)
    dataset = dataset.prefetch((execution.prefetch_factor or 2) * max(1, workers))
    options = tf.data.Options()
    # there is nothing to tune, and the thread that would can hold up whoever lets go of a pass for a minute
    options.autotune.enabled = False
    return dataset.with_options(options)
