"""Where the patterns were taken: positions in another unit than pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .config import ExaminationConfig
from .findings import Action, Finding

if TYPE_CHECKING:
    from ..raw import RawData

SETTING = "PtychoPINNPluginExamination.Refuse"

_LEAST_SPAN = 1.0
"""Pixels: positions that are all closer than this show one and the same part of the sample."""

_LEAST_PART = 0.02
"""Of the probe's width: likewise."""


def probe_width(probe: NDArray[np.complex64]) -> float:
    """Diameter of the even disk that is as concentrated as a probe, pixels: ``√(4/π (ΣI)² / ΣI²)``."""
    intensity = (np.abs(probe.astype(np.complex128)) ** 2).sum(0)
    return float(np.sqrt(4 / np.pi * intensity.sum() ** 2 / (intensity**2).sum()))


def examine_positions(raw: RawData, config: ExaminationConfig) -> list[Finding]:
    """Whether each scan of a RawData covers more than a point, and whether its patterns can overlap."""
    findings = []
    width = probe_width(raw.probeGuess)
    for number in np.unique(raw.scan_index):
        members = raw.scan_index == number
        x, y = raw.xcoords[members], raw.ycoords[members]
        if len(x) < 2:
            continue
        span_x, span_y = float(np.ptp(x)), float(np.ptp(y))
        if max(span_x, span_y) < max(_LEAST_SPAN, _LEAST_PART * width):
            findings.append(_within_a_pixel(len(x), span_x, span_y, width, config))
            continue
        points = np.stack([x, y], -1)
        nearest = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
        if nearest > raw.N:
            findings.append(_far_apart(len(x), nearest, span_x, span_y, raw.N, config))
    return findings


def _within_a_pixel(
    count: int, span_x: float, span_y: float, width: float, config: ExaminationConfig
) -> Finding:
    return _refused(
        "positions-within-a-pixel",
        f"All {count} positions lie within {span_x:.3g} × {span_y:.3g} pixels (x × y) of each other, under a "
        f"probe that is {width:.3g} pixels wide: every pattern would show the same part of the sample.",
        "Positions are in pixels of the object array here, in metres in Ptychodus' products: if these are in "
        "metres, divide them by the object's pixel size; if they came from a file, check its unit.",
        {"span_x": span_x, "span_y": span_y, "probe_width": width},
        config,
    )


def _far_apart(
    count: int, nearest: float, span_x: float, span_y: float, n: int, config: ExaminationConfig
) -> Finding:
    return _refused(
        "positions-far-apart",
        f"The {count} positions are {nearest:.4g} pixels from their nearest neighbour in the median, and "
        f"span {span_x:.4g} × {span_y:.4g} pixels (x × y): patterns of {n} × {n} pixels do not overlap.",
        "Positions are in pixels of the object array here, in metres in Ptychodus' products: check the unit "
        "(nanometres or micrometres for pixels, micrometres for metres?), and the object's pixel size.",
        {"nearest": nearest, "span_x": span_x, "span_y": span_y},
        config,
    )


def _refused(
    code: str, seen: str, remedy: str, values: dict[str, float], config: ExaminationConfig
) -> Finding:
    if config.refuse:
        return Finding(code, "geometry", Action.REFUSED, seen, remedy, SETTING, values)
    done = f"They are used as they are, and the result will be wrong. {remedy}"
    return Finding(code, "geometry", Action.IGNORED, seen, done, SETTING, values)
