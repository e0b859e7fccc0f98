"""Pixels as the detector wrote them: which of them are bad, and whether they hold counts or amplitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detector import check_values, guess_domain
from .config import ExaminationConfig
from .findings import Report


@dataclass(frozen=True)
class ExaminedPixels:
    """What is known of the pixels after their examination.

    Attributes
    ----------
    bad_pixels
        (N, N) bool, those that were given and those that were found.
    domain
        ``"counts"`` or ``"amplitude"``.
    report
        What was found.
    """

    bad_pixels: NDArray[np.bool_]
    domain: str
    report: Report


def examine_pixels(
    patterns: NDArray[Any],
    bad_pixels: NDArray[np.bool_],
    probe: NDArray[np.complex64],
    domain: str | None,
    config: ExaminationConfig,
) -> ExaminedPixels:
    """Examine the patterns of a scan before they become amplitude.

    Parameters
    ----------
    patterns
        (M, N, N) integers or floating-point numbers, as they were stored.
    bad_pixels
        (N, N) bool, those that the user has named.
    probe
        (modes, N, N) complex, in any scale.
    domain
        ``"counts"`` or ``"amplitude"`` where the data say so, else None.
    config
        What the user has decided.

    Raises
    ------
    ValueError
        If the patterns hold values that cannot be used; an :class:`.ExaminationError` if they are refused.
    """
    if domain is None and config.pattern_values != "auto":
        domain = config.pattern_values
    check_values(patterns, ~bad_pixels)
    return ExaminedPixels(bad_pixels, domain or guess_domain(patterns, ~bad_pixels), Report())
