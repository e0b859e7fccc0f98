"""Objectives: how far predicted counts are from measured ones, and what a good object looks like.

All are means over the batch, of order one whatever the dose, so that one learning rate serves every scan.
Bad pixels (``good`` = 0) take no part in the data terms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..hyperparameters import MODULUS_FLOOR


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
    deviance = expected - counts + torch.xlogy(counts, counts) - torch.xlogy(counts, expected)
    of_patterns = (deviance * good).sum((-2, -1))
    if exposure is not None:
        of_patterns = of_patterns * exposure
    return of_patterns.mean() / photons_per_pattern


def amplitude_mae(
    amplitude: Tensor,
    expected: Tensor,
    good: Tensor,
    rms_amplitude: float,
    exposure: Tensor | None = None,
) -> Tensor:
    """Mean over good pixels of ``|√n − √λ|``, in units of the training set's RMS amplitude.

    ``exposure`` as for :func:`poisson_nll`; the difference is then multiplied by its root.
    """
    difference = (amplitude - torch.sqrt(expected)).abs() * good
    of_patterns = difference.sum((-2, -1))
    if exposure is not None:
        of_patterns = of_patterns * exposure.sqrt()
    return (of_patterns / good.sum((-2, -1))).mean() / rms_amplitude


def total_variation(patches: Tensor) -> Tensor:
    """Mean modulus of the differences between neighbouring pixels of complex patches (B, C, N, N)."""
    vertical = patches[..., 1:, :] - patches[..., :-1, :]
    horizontal = patches[..., :, 1:] - patches[..., :, :-1]
    return _modulus(vertical).mean() + _modulus(horizontal).mean()


def realspace_mae(patches: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Illumination-weighted mean of ``|O − O_true|`` of each patch, and the mean of these.

    Patches and truth are (B, C, N, N), the weight (N, N), or (B, 1, N, N) where it differs.
    """
    return _difference(patches, truth, weight).mean()


def aligned_mae(patches: Tensor, truth: Tensor, weight: Tensor, twin: Tensor | None = None) -> Tensor:
    """As :func:`realspace_mae`, once each patch has been given the phase that fits its truth best.

    That of the illumination-weighted sum of ``O* O_true`` over the patch: diffraction does not determine it.
    Where it does not tell the truth from its ``twin``, (B, C, N, N), each patch is compared with whichever of
    the two is less far from it.
    """
    of_patches = _aligned_difference(patches, truth, weight)
    if twin is not None:
        turned = _aligned_difference(patches, twin, weight)
        of_patches = torch.where(turned < of_patches, turned, of_patches)
    return of_patches.mean()


def _aligned_difference(patches: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(B, C)."""
    overlap = (patches.conj() * truth * weight).mean((-2, -1), keepdim=True)
    return _difference(patches * (overlap / _modulus(overlap)), truth, weight)


def _difference(patches: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(B, C) illumination-weighted means."""
    return (_modulus(patches - truth) * weight).mean((-2, -1)) / weight.mean((-2, -1))


def _modulus(z: Tensor) -> Tensor:
    # torch.abs has no finite gradient at 0
    return torch.sqrt(z.real.square() + z.imag.square() + MODULUS_FLOOR)
