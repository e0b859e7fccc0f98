"""The picture of a confidence: map, expected error and rings; and the one way in which rings are drawn."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..data.confidence import Confidence
from ..data.metrics import RingCorrelation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PIXELS = 1024
"""Along an edge of what is drawn."""


def picture(confidence: Confidence, pixel_m: float | None = None) -> bytes:
    """A PNG image: the map, the expected error, and the rings between the halves of the scan.

    Parameters
    ----------
    confidence
        What is drawn.
    pixel_m
        Edge of a pixel of the object in metres; None: lengths are in pixels.
    """
    figure = new_figure(15.0, 4.6)
    of_map, of_error, of_rings = figure.subplots(1, 3)
    draw_map(of_map, confidence)
    error = confidence.expected_error
    high = float(np.nanpercentile(error, 99.5)) if np.isfinite(error).any() else 1.0
    limits = {"vmin": 0.0, "vmax": max(high, 1e-12)}
    shown = of_error.imshow(_as_seen(error), cmap="magma", interpolation="nearest", **limits)
    of_error.set_title("Expected error, unit of the object")
    of_error.set_xticks([])
    of_error.set_yticks([])
    figure.colorbar(shown, ax=of_error, shrink=0.85)
    if confidence.rings is None:
        of_rings.set_axis_off()
        of_rings.text(0.5, 0.5, "Too little is lit by both halves\nto compare them.", ha="center")
    else:
        draw_rings(of_rings, confidence.rings, pixel_m)
        of_rings.set_title("Halves of the scan")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def draw_map(axes: Axes, confidence: Confidence) -> None:
    """The map of confidence from 0, dark, to 1; grey where there was no light."""
    axes.set_facecolor("0.7")
    drawn = axes.imshow(_as_seen(confidence.map), cmap="viridis", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_title(f"Confidence: {confidence.mean:.2f} on average, {confidence.doubtful:.0%} doubtful")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.figure.colorbar(drawn, ax=axes, shrink=0.85)


def _as_seen(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Evenly spread pixels, more than a panel has: what draws them takes a hundred bytes for each."""
    every = math.ceil(max(values.shape) / _MOST_PIXELS)
    return values[::every, ::every]


def draw_rings(axes: Axes, rings: RingCorrelation, pixel_m: float | None) -> None:
    """Correlation by ring with the half-bit threshold, over periods per µm, or per pixel without a size."""
    scale, unit = (1.0, "pixel") if pixel_m is None else (1.0 / (pixel_m * 1e6), "µm")
    frequency = rings.frequency * scale
    axes.plot(frequency, rings.correlation, label="ring correlation")
    axes.plot(frequency, rings.threshold, "--", c="0.4", label="half bit")
    if rings.cutoff is not None:
        axes.axvline(rings.cutoff * scale, lw=0.8, c="tab:red")
    axes.set(xlabel=f"periods per {unit}", ylabel="Correlation", ylim=(-0.1, 1.05))
    axes.grid(alpha=0.3)
    axes.legend()


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that pyplot, and whatever window it may have, knows nothing of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
