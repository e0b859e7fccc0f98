"""What the verdict says, in the words of those who record scans."""

from __future__ import annotations

import math

from .bounds import Bounds
from .lags import Lagging
from .trial import EPOCHS, TIMES, Fit, Trial, alike
from .variants import Variant


def summary(sound: bool, bounds: Bounds) -> str:
    """The error, and what it is compared with."""
    if not math.isfinite(bounds.error):
        return "The object explains nothing: with its probe it puts no light where the patterns have it."
    if not sound:
        how = "The object explains the patterns poorly"
    elif bounds.tells_little:
        how = "The patterns hardly differ by more than noise, so that their fit says little about the object"
    elif bounds.error <= bounds.noise:
        how = "The object explains the patterns"
    else:
        part = 100.0 * max(1.0 - bounds.unexplained, 0.0)
        how = f"The object explains {part:.3g} % of the differences between the patterns that are not noise"
    unit = bounds.counts_per_photon
    photons = "" if unit == 1 else f" (their variance is {unit:.2g} times their mean: they are no photons)"
    return (
        f"{how}: the error is {_figure(bounds.error)} of the counts, noise alone would leave "
        f"{_figure(bounds.noise)}{photons}, the mean pattern without any object "
        f"{_figure(bounds.mean_pattern)}, and an empty object under this probe {_figure(bounds.flat)}."
    )


def remedy_in_words(
    sound: bool, bounds: Bounds, trial: Trial | None, lagging: Lagging | None, stopped: bool
) -> str:
    """What was tried, and what to change."""
    if lagging is not None:
        return _lag_in_words(lagging)
    if trial is not None and trial.remedy is not None:
        return _reading_in_words(trial, trial.remedy)
    if stopped:
        return "A trial that would have said whether the scan should be read in another way was stopped."
    if trial is None:
        return "No other reading of the scan was tried." if sound else "Start from another object or probe."
    tried = (
        f"In a trial of {EPOCHS} epochs on {len(trial.as_it_is.each)} patterns, no other orientation of "
        f"patterns or positions, no shift by a frame and no other pixel size fits clearly better than "
        f"the scan as it is ({_figure(trial.as_it_is.error)}; wrong orientations leave "
        f"{_figure(trial.usual)})."
    )
    if not trial.read_rightly and sound:
        return f"{tried} So it cannot be told whether the scan is read rightly: more photons would tell."
    if not sound and (not trial.read_rightly or bounds.error <= TIMES * trial.as_it_is.error):
        return (
            f"{tried} Nothing explains the patterns: check the unit of the positions, the pixel size of the "
            "object (photon energy, detector distance, detector pixels, binning), the probe, and whether the "
            "patterns were taken in the far field."
        )
    if not sound:
        return (
            f"{tried} So the scan is read rightly, but this is not the object: train for longer or on scans "
            "like this one, or refine it for more epochs."
        )
    if bounds.error > TIMES * trial.as_it_is.error:
        return f"{tried} The scan is read rightly, and refining the object for more epochs would better it."
    return (
        f"{tried} The scan is read rightly; what is left beyond noise may be more modes of the probe, "
        "positions that are not exact, changes of the beam, background, or epochs that are missing."
    )


def _reading_in_words(trial: Trial, fit: Fit) -> str:
    variant = fit.variant
    text = f"{_better(trial.as_it_is, fit)} {variant.name}: {_what_to_do(variant)}"
    counterpart = variant.counterpart
    others = [] if counterpart is None else alike(trial, fit, [counterpart])
    if others:
        text += (
            f" They fit about as well ({_figure(others[0].error)}) {others[0].variant.name}: the two differ "
            "by the orientation of the object, and the patterns cannot tell which is true."
        )
    if variant.is_half_turn:
        text += (
            " So it would be if the probe were the wrong way round: its complex conjugate, as with the "
            "opposite defocus, stands for the same change."
        )
    return text


def _what_to_do(variant: Variant) -> str:
    if variant.turns_patterns:
        return (
            f"change {variant.switches} of the patterns' settings, in addition to what is set, and load the "
            "patterns again."
        )
    if variant.turns_positions:
        return "change the signs and the order of the position axes (the affine transform of the positions)."
    if variant.scale != 1:
        return (
            "the positions and the object's pixels do not match; check the unit of the positions, the photon "
            "energy, the detector distance, the detector's pixel size and binning."
        )
    return "the zero frequency has to be in the middle of a pattern; move it, or correct the beam centre."


def _lag_in_words(lagging: Lagging) -> str:
    if lagging.first is None:
        where = "from some pattern on"
    elif lagging.first == 0:
        where = "from the first pattern on"
    else:
        where = f"from about pattern number {lagging.first} (from 0) on"
    if lagging.lag < 0:
        why = "a pattern too many was recorded there, or a position is missing. Leave that pattern out"
    else:
        why = "a pattern is missing there, or there is a position too many. Leave that position out"
    return (
        f"{_better(lagging.as_it_is, lagging.fit)} {lagging.fit.variant.name}, {where}: {why}, or match "
        "patterns and positions by their indexes."
    )


def _better(as_it_is: Fit, fit: Fit) -> str:
    times = as_it_is.error / max(fit.error, 1e-30)
    return (
        f"In a trial of {EPOCHS} epochs on {len(fit.each)} patterns, the patterns fit {times:.2g} times "
        f"better ({_figure(fit.error)} instead of {_figure(as_it_is.error)})"
    )


def _figure(value: float) -> str:
    return f"{value:.2g}"
