"""Counts beyond what the detector, or the type in which they were stored, can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .findings import Action, Finding
from .statistics import sampled

_LEAST_VALUES, _LEAST_PIXELS = 10, 3
_ABOVE_USUAL = 2.0
"""So many times as often as each of the values just below it must the largest value be found."""

_FEW = 2e-5
"""Part of the values below which clipping does no harm."""

_LOOKED_AT = 64  # patterns


def clipped_values(
    patterns: NDArray[Any], chosen: NDArray[np.intp], good: NDArray[np.bool_]
) -> list[Finding]:
    """Whether many values share one maximum, where those of counts become rare towards their maximum."""
    chosen = chosen[:: -(-len(chosen) // _LOOKED_AT)]
    limit = max(chunk[:, good].max() for chunk in sampled(patterns, chosen))
    hits, upper = np.zeros(good.shape, np.int64), []
    for chunk in sampled(patterns, chosen):
        hits += (chunk == limit).sum(0)
        measured = chunk[:, good]
        upper.append(measured[(measured >= limit / 2) & (measured < limit)])
    hits[~good] = 0
    number, pixels = int(hits.sum()), int((hits > 0).sum())
    if number < _LEAST_VALUES or pixels < _LEAST_PIXELS:
        return []
    # what values there are depends on the unit, so they are ranked: the few below the largest
    occurring = np.unique(np.concatenate(upper), return_counts=True)[1]
    below = occurring[-max(2, round(len(occurring) ** 0.5)) :]
    if len(below) < 2 or number < _ABOVE_USUAL * below.mean() + _LEAST_VALUES:
        return []
    part = number / (len(chosen) * int(good.sum()))
    few = part < _FEW
    seen = (
        f"{pixels} pixels share the largest value, {float(limit):g}, as {part:.2g} of all values do: "
        "counts above it were cut off."
    )
    done = "These values are used as if they were counts, but they are a lower bound"
    done += (
        "; they are few."
        if few
        else (
            ": the object will be wrong where they matter. Store the patterns in a larger type, "
            "measure with less light, or mark the pixels as bad."
        )
    )
    action = Action.NOTED if few else Action.IGNORED
    values = {"limit": float(limit), "count": pixels, "part": part}
    return [Finding("clipped", "detector", action, seen, done, values=values)]
