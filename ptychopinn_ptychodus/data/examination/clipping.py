"""Counts beyond what the detector, or the type in which they were stored, can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .findings import Action, Finding
from .statistics import sampled

_LEAST_VALUES, _LEAST_PIXELS = 10, 3
_ABOVE_USUAL = 3.0
"""So many times as often as each of the values just below it must the largest value be found."""

_FEW = 2e-5
"""Part of the values below which clipping does no harm."""


def clipped_values(
    patterns: NDArray[Any], chosen: NDArray[np.intp], good: NDArray[np.bool_]
) -> list[Finding]:
    """Whether many values share one maximum, where those of counts become rare towards their maximum."""
    limit: Any = None
    for chunk in sampled(patterns, chosen):
        largest = chunk[:, good].max()
        limit = largest if limit is None else max(limit, largest)
    if not limit > 0:
        return []
    whole = patterns.dtype.kind != "f"
    # the values within two standard deviations of counts; floating-point numbers may have any unit
    lowest = float(limit) - max(1.0, 2 * float(limit) ** 0.5) if whole else 0.8 * float(limit)
    hits, below, distinct = np.zeros(good.shape, np.int64), 0, set[float]()
    for chunk in sampled(patterns, chosen):
        hits += (chunk == limit).sum(0)
        near = chunk[:, good]
        near = near[(near >= lowest) & (near < limit)]
        below += near.size
        if not whole and len(distinct) < 10_000:
            distinct.update(np.unique(near).tolist())
    hits[~good] = 0
    number, pixels = int(hits.sum()), int((hits > 0).sum())
    different = max(1, int(float(limit) - lowest)) if whole else max(1, len(distinct))
    usual = below / different
    if number < _LEAST_VALUES or pixels < _LEAST_PIXELS or number < _ABOVE_USUAL * usual + _LEAST_VALUES:
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
    values = {"limit": float(limit), "pixels": pixels, "part": part}
    return [Finding("clipped", "detector", action, seen, done, values=values)]
