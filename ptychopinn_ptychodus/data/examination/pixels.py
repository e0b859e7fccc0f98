"""Pixels as the detector wrote them: which of them are bad, how they lie, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detector import check_values
from .bad_pixels import dead_pixels, hot_pixels, inverted_mask, stuck_pixels
from .centring import find_centre
from .clipping import clipped_values
from .config import ExaminationConfig
from .findings import Report
from .pattern_values import find_domain
from .statistics import far_field, pixel_statistics, read_patterns


@dataclass(frozen=True)
class ExaminedPixels:
    """What is known of the pixels after their examination.

    Attributes
    ----------
    bad_pixels
        (N, N) bool, those that were given and those that were found, shifted by ``shift``.
    domain
        ``"counts"`` or ``"amplitude"``.
    shift
        (rows, columns) by which the patterns are to be rolled.
    report
        What was found.
    """

    bad_pixels: NDArray[np.bool_]
    domain: str
    shift: tuple[int, int]
    report: Report


def examine_pixels(
    patterns: NDArray[Any],
    bad_pixels: NDArray[np.bool_],
    probe: NDArray[np.complex64],
    domain: str | None,
    config: ExaminationConfig,
) -> ExaminedPixels:
    """Examine the patterns of a scan before they become amplitude.

    All patterns are read once for values that are no measurement; the other checks look at some hundred
    patterns, spread over the scan. Nothing is copied but a few patterns at a time.

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
        If the patterns hold values that cannot be used; an :class:`.ExaminationError` if all light is on
        pixels that the user has named as bad.
    """
    if domain is None and config.pattern_values != "auto":
        domain = config.pattern_values
    model = far_field(probe)
    good = ~bad_pixels
    readings = read_patterns(patterns, good)
    suspect, findings = stuck_pixels(readings, good, patterns.dtype, config)
    if not readings.light.any():
        # there may be light elsewhere, which is more to the point than that there is none here
        dark = pixel_statistics(patterns, readings.usual(), domain or "counts")
        said = inverted_mask(dark, bad_pixels, model, replace(config, refuse=True))
        Report((*findings, *said)).require_accepted()
    check_values(patterns, good & ~suspect if config.mask_pixels else good)
    sound = good & ~suspect
    chosen = readings.usual()
    assumed = domain or ("amplitude" if patterns.dtype.kind == "f" else "counts")
    pixels = pixel_statistics(patterns, chosen, assumed)
    fit, said = find_centre(pixels.mean, sound, model, config)
    findings += said
    lies = fit.shift if said and said[0].code == "off-centre" else fit.half
    model = np.roll(model, lies, (0, 1))
    holds, said = find_domain(patterns, chosen, sound, model, domain)
    findings += said
    if holds != assumed:
        pixels = pixel_statistics(patterns, chosen, holds)
    inverted = inverted_mask(pixels, bad_pixels, model, config)
    if inverted:
        findings += inverted  # what the good pixels hold tells nothing then
    else:
        for check in (hot_pixels, dead_pixels):
            found, said = check(pixels, sound, model, config)
            sound, findings = sound & ~found, findings + said
        findings += clipped_values(patterns, chosen, sound)
    bad = ~sound if config.mask_pixels else bad_pixels
    shift = fit.half if config.centre_patterns else (0, 0)
    return ExaminedPixels(np.roll(bad, shift, (0, 1)), holds, shift, Report(tuple(findings)))
