"""Objectives: how far predicted counts are from measured ones, and what a good object looks like.

All are means over the batch, of order one whatever the dose, so that one learning rate serves every scan.
Bad pixels (``good`` = 0) take no part in the data terms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..recipe import MODULUS_FLOOR


def poisson_nll(counts: Tensor, expected: Tensor, good: Tensor, photons_per_pattern: float) -> Tensor:
    """Poisson negative log-likelihood per pattern over the mean photons per pattern.

    ``Σ [(λ − n log λ) − (n − n log n)] / photons``: the bracket's second half does not depend on the model;
    it makes 0 the value of a perfect prediction.

    Parameters
    ----------
    counts, expected
        (B, C, N, N), measured n and predicted λ; λ > 0.
    good
        (N, N), 1 where the detector is to be trusted.
    photons_per_pattern
        Mean of Σ n over the training set.
    """
    deviance = expected - counts + torch.xlogy(counts, counts) - torch.xlogy(counts, expected)
    return (deviance * good).sum((-2, -1)).mean() / photons_per_pattern


def amplitude_mae(amplitude: Tensor, expected: Tensor, good: Tensor, rms_amplitude: float) -> Tensor:
    """Mean over good pixels of ``|√n − √λ|``, in units of the training set's RMS amplitude."""
    difference = (amplitude - torch.sqrt(expected)).abs() * good
    return difference.sum((-2, -1)).mean() / (good.sum() * rms_amplitude)


def total_variation(patches: Tensor) -> Tensor:
    """Mean modulus of the differences between neighbouring pixels of complex patches (B, C, N, N)."""
    vertical = patches[..., 1:, :] - patches[..., :-1, :]
    horizontal = patches[..., :, 1:] - patches[..., :, :-1]
    return _modulus(vertical).mean() + _modulus(horizontal).mean()


def realspace_mae(patches: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Illumination-weighted mean of ``|O − O_true|``; patches and truth (B, C, N, N), weight (N, N)."""
    return (_modulus(patches - truth) * weight).mean() / weight.mean()


def _modulus(z: Tensor) -> Tensor:
    # torch.abs has no finite gradient at 0
    return torch.sqrt(z.real.square() + z.imag.square() + MODULUS_FLOOR)
