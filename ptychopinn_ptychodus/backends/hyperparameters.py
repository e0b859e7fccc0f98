"""The fixed numbers that define the networks and their training, for every engine.

Both engines read them from here, so that they train the same model: a change here changes both. This module
imports no framework. Each number is used in the engines' modules that its heading names.
"""

from __future__ import annotations

import math

# ---- 'cnn': channels of the blocks by N, times n_filters_scale
COARSEST = 8
"""Edge of the maps between encoder and decoders, whatever N is: each block of either halves or doubles it."""


def encoder_filters(n: int) -> tuple[int, ...]:
    """From N to 8 pixels.

    >>> encoder_filters(64), encoder_filters(256)
    ((32, 64, 128), (8, 16, 32, 64, 128))
    """
    return tuple(max(8, 128 >> block) for block in reversed(range(int(math.log2(n // COARSEST)))))


def decoder_filters(n: int) -> tuple[int, ...]:
    """From 8 to N/2 pixels.

    >>> decoder_filters(64), decoder_filters(256)
    ((64, 32), (256, 128, 64, 32))
    """
    return tuple(min(256, 32 << block) for block in reversed(range(int(math.log2(n // COARSEST)) - 1)))


OUTER_CHANNELS = 4
"""Number of a decoder's last channels, which make what is outside ``pad_object``'s centre (``probe_big``)."""

INPUT_GAIN = 2.0
"""The network's input is multiplied by this: a pattern's amplitudes less those of an empty object."""

KERNEL_UNIT = 0.25
"""The unit of stored kernels: they are divided by it and the root of their fan-in where they are applied."""

HEAD_SPREAD = 0.1
"""Standard deviation of a fresh network's last kernels, in KERNEL_UNIT: its object is nearly flat."""

AMPLITUDE_UNIT = 2.0
"""The object's amplitude where the activation is 1.

The scale is fitted such that an object of amplitude 1 explains the photons. An activation of 1/2 stands for
that: there a sigmoid has its largest gradient, and it still reaches objects that are up to twice as bright.
"""

AMPLITUDE_BIAS = {"sigmoid": 0.0, "swish": 0.738835, "softplus": -0.432752, "relu": 0.5}
"""The input at which each activation is 1/2, so that the amplitude starts at 1."""

# ---- 'unrolled'
STEPS = 10
STEPS_PER_CORRECTION = 5
LEVELS = 3
WIDTH = 8
"""Channels of the U-Net's first level, times ``n_filters_scale``."""

FIRST_STEP, FIRST_MOMENTUM = 0.8, 0.3
REFLECTION_RELAXATION = 0.8
"""Of the reflections that come before the steps, where a model has any; 1 is without relaxation."""

START_TILT = (0.3, 0.15)
"""By how much the amplitude that reflections start from rises along x and y, per N/2 pixels.

A flat start would stay as symmetric as an even probe: it would never choose between a patch and its twin.
"""

WEIGHT_FLOOR = 0.02
"""Relative illumination below which an update is damped rather than divided by it."""

AMPLITUDE_FLOOR = 1e-6

# ---- 'unrolled_fourier': as 'unrolled', with other corrections
FOURIER_LAYERS = 2
FOURIER_WIDTH = 12
"""Channels of all layers, times ``n_filters_scale``."""

MODES = 12
"""Of a Fourier layer along either axis, from the constant one on: fewer than half of the least N."""

# ---- both
MOST_KEPT = 16 * 128**2
"""Pixels of exit waves up to which a training on a CPU keeps what the gradients need, about 2 kB a pixel.

PyTorch's engine learns from a larger batch in parts that are no larger, one after the other. Where a single
group is larger, and in TensorFlow where a batch is, the results of each step are computed once more when
their turn for gradients has come.
"""

# ---- forward model and objective
MERGE_FLOOR = 1e-3
"""Added to the overlap count, so that uncovered pixels of a merged region are zero and not NaN."""

COUNT_FLOOR = 1e-6
"""Added to predicted counts, in units of the mean counts per pixel, so that λ > 0."""

MODULUS_FLOOR = 1e-12
"""Added to |z|² under the root: the modulus has no finite gradient at 0."""

# ---- optimisation
PHYSICS_RATE = 5.0
"""Learning rate of physical parameters, relative to that of network weights."""

# ---- inference
PATTERNS_PER_BATCH = {"cpu": 32, "gpu": 512}
"""Patterns of 64 × 64 at once where ``inference_batch_size`` is not set; fewer larger ones, as 64/N.

On a CPU, larger batches do not fit into the cache. A GPU needs many patterns to be busy; 512 should take 2 to
3 GB of its memory, which is calculated and was not measured.
"""
