"""Objectives: how far predicted counts are from measured ones, and what a good object looks like.

All are means over the batch, of order one whatever the dose, so that one learning rate serves every scan.
Bad pixels (``good`` = 0) take no part in the data terms.
"""

from __future__ import annotations

import tensorflow as tf

from ..hyperparameters import MODULUS_FLOOR
from .architecture import Tensor
from .forward import as_complex, power


def poisson_nll(
    counts: Tensor,
    expected: Tensor,
    good: Tensor,
    photons_per_pattern: float,
    exposure: Tensor | None = None,
) -> Tensor:
    """Poisson negative log-likelihood per pattern over the mean photons per pattern.

    ``Σ [(λ − n log λ) − (n − n log n)] / photons``: the bracket's second half does not depend on the model;
    it makes 0 the value of a perfect prediction.

    Parameters
    ----------
    counts, expected
        (B, C, N, N), measured n and predicted λ; λ > 0.
    good
        (N, N), or (B, 1, N, N) where it differs; 1 where the detector is to be trusted.
    photons_per_pattern
        Mean of Σ n over the training set.
    exposure
        (B, C), where it differs: how often the counts and their prediction were in fact recorded. The
        likelihood of e · n counts where e · λ are expected is e times that of n where λ are.
    """
    deviance = expected - counts + tf.math.xlogy(counts, counts) - tf.math.xlogy(counts, expected)
    of_patterns = tf.reduce_sum(deviance * good, (-2, -1))
    if exposure is not None:
        of_patterns *= exposure
    return tf.reduce_mean(of_patterns) / photons_per_pattern


def amplitude_mae(
    amplitude: Tensor,
    expected: Tensor,
    good: Tensor,
    rms_amplitude: float,
    exposure: Tensor | None = None,
) -> Tensor:
    """Mean over good pixels of ``|√n - √λ|``, in units of the training set's RMS amplitude.

    ``exposure`` as for :func:`poisson_nll`; the difference is then multiplied by its root.
    """
    difference = tf.abs(amplitude - tf.sqrt(expected)) * good
    of_patterns = tf.reduce_sum(difference, (-2, -1))
    if exposure is not None:
        of_patterns *= tf.sqrt(exposure)
    return tf.reduce_mean(of_patterns / tf.reduce_sum(good, (-2, -1))) / rms_amplitude


def total_variation(patches: Tensor) -> Tensor:
    """Mean modulus of the differences between neighbouring pixels of complex patches (B, C, N, N)."""
    vertical = patches[..., 1:, :] - patches[..., :-1, :]
    horizontal = patches[..., :, 1:] - patches[..., :, :-1]
    return tf.reduce_mean(_modulus(vertical)) + tf.reduce_mean(_modulus(horizontal))


def realspace_mae(patches: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Illumination-weighted mean of ``|O − O_true|`` of each patch, and the mean of these.

    Patches and truth are (B, C, N, N), the weight (N, N), or (B, 1, N, N) where it differs.
    """
    return tf.reduce_mean(_difference(patches, truth, weight))


def aligned_mae(patches: Tensor, truth: Tensor, weight: Tensor, twin: Tensor | None = None) -> Tensor:
    """As :func:`realspace_mae`, once each patch has been given the phase that fits its truth best.

    That of the illumination-weighted sum of ``O* O_true`` over the patch: diffraction does not determine it.
    Where it does not tell the truth from its ``twin``, (B, C, N, N), each patch is compared with whichever of
    the two is less far from it.
    """
    of_patches = _aligned_difference(patches, truth, weight)
    if twin is not None:
        turned = _aligned_difference(patches, twin, weight)
        of_patches = tf.where(turned < of_patches, turned, of_patches)
    return tf.reduce_mean(of_patches)


def _aligned_difference(patches: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(B, C)."""
    weighted = tf.math.conj(patches) * truth * as_complex(weight)
    overlap = tf.reduce_mean(weighted, (-2, -1), keepdims=True)
    return _difference(patches * (overlap / as_complex(_modulus(overlap))), truth, weight)


def _difference(patches: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(B, C) illumination-weighted means."""
    of_patches = tf.reduce_mean(_modulus(patches - truth) * weight, (-2, -1))
    return of_patches / tf.reduce_mean(weight, (-2, -1))


def _modulus(z: Tensor) -> Tensor:
    # tf.abs has no finite gradient at 0
    return tf.sqrt(power(z) + MODULUS_FLOOR)
