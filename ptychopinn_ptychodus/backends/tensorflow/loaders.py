"""Batches of grouped data as ``tf.data`` datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ...config import ExecutionConfig
from ...data.container import PtychoDataContainer


def build_dataset(
    container: PtychoDataContainer,
    input_scale: float,
    batch_size: int,
    execution: ExecutionConfig,
    *,
    with_object: bool = False,
    shuffle: bool = False,
    seed: int | None = None,
) -> tf.data.Dataset:
    """The groups of ``container``, gathered a batch at a time; ``seed`` fixes the order of shuffled ones.

    A batch is a dictionary of ``amplitude`` (B, N, N, C) float32, normalised by ``input_scale`` and the
    exposure of each pattern; ``offsets`` (B, C, 2) float32; ``exposure`` (B, C) float32, unless all are 1;
    ``probe`` (B, modes, N, N) complex64 in the scale of the amplitudes, where the container has several; and,
    where asked for, ``object`` (B, C, N, N) complex64.

    Raises
    ------
    ValueError
        If the objects are asked for and the container has none.
    """
    if with_object:
        container.patches_for([0])  # if there are none, what it raises would be buried in a graph's error
    exposed = container.exposures_for([0], input_scale) is not None
    size, channels = container.N, container.gridsize**2

    def gather(chosen: Any) -> list[Any]:
        offsets = container.coords_relative[chosen, 0].transpose(0, 2, 1)
        amplitude = container.normalised(chosen, input_scale)
        batch: list[Any] = [amplitude, np.ascontiguousarray(offsets, np.float32)]
        if exposed:
            batch.append(container.exposures_for(chosen, input_scale))
        if container.probes is not None:
            batch.append(container.probes_for(chosen) * np.float32(input_scale))
        if with_object:
            batch.append(np.ascontiguousarray(container.patches_for(chosen).transpose(0, 3, 1, 2)))
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
    if with_object:
        shapes["object"] = (None, channels, size, size)
        types.append(tf.complex64)

    def load(chosen: tf.Tensor) -> dict[str, tf.Tensor]:
        # numpy gathers: the scan is in memory once, and not a second time as a constant of a graph
        arrays = tf.numpy_function(gather, [chosen], types, stateful=False)
        return {
            name: tf.ensure_shape(array, shape)
            for (name, shape), array in zip(shapes.items(), arrays, strict=True)
        }

    dataset = tf.data.Dataset.range(len(container))
    if shuffle:
        dataset = dataset.shuffle(len(container), seed=seed, reshuffle_each_iteration=True)
    workers = execution.num_workers
    dataset = dataset.batch(batch_size).map(load, num_parallel_calls=workers or None)
    dataset = dataset.prefetch((execution.prefetch_factor or 2) * max(1, workers))
    options = tf.data.Options()
    # there is nothing to tune, and the thread that would can hold up whoever lets go of a pass for a minute
    options.autotune.enabled = False
    return dataset.with_options(options)
