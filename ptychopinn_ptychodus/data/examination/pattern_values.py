"""Whether patterns hold counts or amplitude, by evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detector import guess_domain
from .findings import Action, Finding
from .statistics import sampled

SETTING = "PtychoPINNPluginExamination.PatternValues"

_LOOKED_AT = 64  # patterns
_PIXELS = 400
_LEAST_VOTES, _MAJORITY = 20, 0.8
_NEAR_WHOLE = 0.02
_MOST_STEPS = 400  # beyond so many steps, single precision cannot tell a whole number of them
_LEAST_FIT, _MISFIT, _LEAST_SEEN = 0.7, 0.3, 0.5
_SURE_FIT, _SURE_MISFIT = 0.95, 0.05
"""Strong scattering makes counts look like amplitude: what is declared is doubted on clear evidence only."""


def find_domain(
    patterns: NDArray[Any],
    chosen: NDArray[np.intp],
    good: NDArray[np.bool_],
    model: NDArray[np.float64],
    declared: str | None,
) -> tuple[str, list[Finding]]:
    """What the patterns hold, and what is to be said about it.

    Counts are whole multiples of some unit in each pixel, whatever flat field they were divided by, and
    amplitude has such squares. Where neither shows, as after subtraction of a background, the mean pattern is
    compared with the probe's far field: the square root of mean counts fits it, for amplitude the root of the
    mean square does. Without evidence for counts, floating-point numbers are amplitude.

    Parameters
    ----------
    patterns
        (M, N, N), as stored.
    chosen
        Indices of the patterns to look at.
    good
        (N, N) bool.
    model
        (N, N), from :func:`.statistics.far_field`.
    declared
        ``"counts"``, ``"amplitude"`` or None.
    """
    chosen = chosen[:: -(-len(chosen) // _LOOKED_AT)]
    if patterns.dtype.kind != "f":
        return declared or "counts", []
    if declared is not None:
        return declared, _doubts(patterns, chosen, good, model) if declared == "counts" else []
    domain = guess_domain(patterns, good)
    if domain == "counts":
        return domain, [_taken_for_counts("are whole numbers above 1 throughout")]
    steps = _whole_steps(patterns, chosen, good)
    if steps == "counts":
        return "counts", [_taken_for_counts("are whole multiples of one step in each pixel")]
    if steps is None:
        as_counts, as_amplitude = _fits(patterns, chosen, good, model)
        if as_counts > _LEAST_FIT and 1 - as_counts**2 < _MISFIT * (1 - as_amplitude**2):
            why = "fit the far field of the probe as counts, and not as amplitude"
            return "counts", [_taken_for_counts(why)]
    return "amplitude", []


def _doubts(
    patterns: NDArray[Any], chosen: NDArray[np.intp], good: NDArray[np.bool_], model: NDArray[np.float64]
) -> list[Finding]:
    """Whether what is said to be counts is amplitude."""
    steps = _whole_steps(patterns, chosen, good)
    if steps == "amplitude":
        return [_said_to_be_counts("their squares are whole multiples of one step in each pixel")]
    if steps is None:
        as_counts, as_amplitude = _fits(patterns, chosen, good, model)
        if as_amplitude > _SURE_FIT and 1 - as_amplitude**2 < _SURE_MISFIT * (1 - as_counts**2):
            return [_said_to_be_counts("they fit the far field of the probe as amplitude, and not as counts")]
    return []


def _whole_steps(patterns: NDArray[Any], chosen: NDArray[np.intp], good: NDArray[np.bool_]) -> str | None:
    """Of what whole multiples of a step are in (nearly) each pixel: "counts", "amplitude" or None."""
    pixels = np.flatnonzero(good.ravel())
    pixels = pixels[:: -(-len(pixels) // (4 * _PIXELS))]
    values = np.concatenate(
        [chunk.reshape(len(chunk), -1)[:, pixels] for chunk in sampled(patterns, chosen)]
    ).astype(np.float64)
    votes: list[str | None] = []
    for series in values.T:
        distinct = np.unique(np.append(series, 0.0))
        # of three, two may be multiples of the third by chance
        if len(distinct) < 4:
            continue
        as_counts, as_amplitude = _are_multiples(distinct), _are_multiples(distinct**2)
        if as_counts:
            votes.append("counts")
        elif as_amplitude or as_amplitude is as_counts is False:
            votes.append("amplitude" if as_amplitude else None)
        if len(votes) == _PIXELS:
            break
    return next(
        (
            domain
            for domain in ("counts", "amplitude")
            if votes.count(domain) >= max(_LEAST_VOTES, _MAJORITY * len(votes))
        ),
        None,
    )


def _are_multiples(distinct: NDArray[np.float64]) -> bool | None:
    """Whether ascending values, 0 first, are whole multiples of the smallest difference of two of them.

    None if they may be, but of so many that their precision does not tell.
    """
    differences = np.diff(distinct)
    step = float(differences[differences > 1e-5 * distinct[-1]].min())
    steps = distinct / step
    if steps[-1] > _MOST_STEPS:
        return None
    return bool(np.abs(steps - np.rint(steps)).max() < _NEAR_WHOLE)


def _fits(
    patterns: NDArray[Any], chosen: NDArray[np.intp], good: NDArray[np.bool_], model: NDArray[np.float64]
) -> tuple[float, float]:
    """Correlation with the probe's far field as counts and as amplitude; 0 where most of it is not seen."""
    if float(model[good].sum()) < _LEAST_SEEN:
        return 0.0, 0.0
    mean, square = np.zeros((2, *good.shape))
    for chunk in sampled(patterns, chosen):
        values = np.where(good, chunk, 0).astype(np.float64)
        mean += values.sum(0)
        square += (values**2).sum(0)

    def fit(image: NDArray[np.float64]) -> float:
        norm = float(image.sum() * model[good].sum())
        return float(np.sqrt(image[good] * model[good]).sum() / np.sqrt(max(norm, 1e-300)))

    return fit(mean), fit(square)


def _taken_for_counts(why: str) -> Finding:
    return Finding(
        "values-are-counts",
        "detector",
        Action.NOTED,
        f"The patterns do not say whether they hold counts or amplitude; their values {why}.",
        "They are taken as counts.",
        SETTING,
        {"taken_as": "counts"},
    )


def _said_to_be_counts(why: str) -> Finding:
    return Finding(
        "values-are-amplitude",
        "detector",
        Action.IGNORED,
        f"The patterns are said to hold counts, but {why}: they look like amplitude, "
        "the square root of counts.",
        "They are used as counts. If they are amplitude, square them, or set PatternValues to amplitude.",
        SETTING,
        {"taken_as": "counts"},
    )
