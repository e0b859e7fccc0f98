"""Where the patterns were taken: positions in another unit than pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .config import ExaminationConfig
from .findings import Action, Finding

SETTING = "PtychoPINNPluginExamination.Refuse"

_LEAST_SPAN = 1.0
"""Pixels: positions that are all closer than this show one and the same part of the sample."""

_LEAST_PART = 0.05
"""Of the probe's width: likewise."""


def examine_positions(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    width: float,
    size: int,
    config: ExaminationConfig,
    pixel_m: tuple[float, float] | None = None,
) -> list[Finding]:
    """Whether a scan covers more than a point, and whether its patterns can overlap.

    Parameters
    ----------
    x, y
        (M,) positions of one scan, pixels.
    width
        Of the probe, see :func:`.probe_width`.
    size
        N, edge of a pattern, pixels.
    config
        What the user has decided.
    pixel_m
        Width and height of a pixel of the object in metres, where they are known.
    """
    if len(x) < 2:
        return []
    span = (float(np.ptp(x)), float(np.ptp(y)))
    extent = f"{span[0]:.3g} × {span[1]:.3g} pixels (x × y)"
    if pixel_m is not None:
        extent += f", which is {span[0] * pixel_m[0]:.3g} × {span[1] * pixel_m[1]:.3g} m"
    if max(span) < max(_LEAST_SPAN, _LEAST_PART * width):
        seen = (
            f"All {len(x)} positions lie within {extent}, under a probe that is {width:.3g} pixels wide: "
            "every pattern would show the same part of the sample."
        )
        return [_refused("positions-within-a-pixel", seen, span, pixel_m, config)]
    points = np.stack([x, y], -1)
    nearest = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
    if nearest > size:
        seen = (
            f"The {len(x)} positions span {extent}, and are {nearest:.4g} pixels from their nearest "
            f"neighbour in the median: patterns of {size} × {size} pixels do not overlap."
        )
        return [_refused("positions-far-apart", seen, span, pixel_m, config)]
    return []


def _refused(
    code: str,
    seen: str,
    span: tuple[float, float],
    pixel_m: tuple[float, float] | None,
    config: ExaminationConfig,
) -> Finding:
    if pixel_m is None:
        remedy = (
            "Positions are in pixels of the object array here: divide positions in metres by the size of "
            "these pixels, and check the unit of those that came from a file."
        )
    else:
        remedy = (
            "Ptychodus' positions are in metres: check the unit of the file that they came from "
            "(millimetres, micrometres or pixels for metres?), and the object's pixel size."
        )
    values = {"span_px": list(span), "pixel_m": None if pixel_m is None else list(pixel_m)}
    if config.refuse:
        return Finding(code, "geometry", Action.REFUSED, seen, remedy, SETTING, values)
    done = f"They are used as they are, and the result will be wrong. {remedy}"
    return Finding(code, "geometry", Action.IGNORED, seen, done, SETTING, values)
