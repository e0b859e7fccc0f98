"""Figures of a report, as PNG images in ``data:`` addresses: a page that holds them needs no other file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.confidence import Confidence
from ..data.display import centred_phase
from ..data.metrics import RingCorrelation
from ..worker.confidence_picture import draw_map, draw_rings
from ..worker.confidence_picture import new_figure as _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MODES = 8
"""Modes of a probe that are shown; their powers fall, and the rest have what is said in words."""


def object_images(array: NDArray[np.complexfloating], pixel_m: tuple[float, float]) -> tuple[str, str]:
    """Amplitude and phase of an object (H, W) with pixels of ``pixel_m`` (x, y) metres, with a scale bar."""
    images = (("Amplitude", np.abs(array)), ("Phase / rad", centred_phase(array)))
    amplitude, phase = (_object_image(name, image, pixel_m) for name, image in images)
    return amplitude, phase


def _object_image(name: str, image: NDArray[np.floating], pixel_m: tuple[float, float]) -> str:
    height, width = (n * edge for n, edge in zip(image.shape, pixel_m[::-1], strict=True))
    # no narrower than the text around it, and with a dot for each pixel up to a size that can be sent
    figure = _figure(7.0, min(14.0, 0.8 + 5.6 * max(0.2, height / width)))
    axes = figure.add_subplot()
    low, high = np.percentile(image, (0.5, 99.5))
    drawn = axes.imshow(
        image, cmap="gray", vmin=low, vmax=high, extent=(0.0, width, height, 0.0), interpolation="nearest"
    )
    axes.set_title(name)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.colorbar(drawn, ax=axes, shrink=0.85)
    _add_scale_bar(axes, width, height)
    return _png(figure, dpi=float(np.clip(max(image.shape) / 5.0, 100.0, 220.0)))


def nice_length(at_most: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is no longer."""
    power = 10.0 ** math.floor(math.log10(at_most))
    return next(power * step for step in (5.0, 2.0, 1.0) if power * step <= at_most * (1 + 1e-9))


def in_units(length_m: float) -> str:
    """A length in metres as people read it."""
    for unit, name in ((1.0, "m"), (1e-3, "mm"), (1e-6, "µm"), (1e-9, "nm")):
        if abs(length_m) >= unit * (1 - 1e-9):
            return f"{length_m / unit:.4g} {name}"
    return f"{length_m / 1e-12:.4g} pm"


def _add_scale_bar(axes: Axes, width: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    length, margin = nice_length(0.3 * width), 0.04 * min(width, height)
    top = height - margin - 0.015 * height
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "black", "linewidth": 0.8}
    axes.add_patch(Rectangle((margin, top), length, 0.015 * height, **box))
    label = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    axes.text(
        margin + length / 2,
        top - margin / 2,
        in_units(length),
        ha="center",
        va="bottom",
        fontsize=9,
        bbox=label,
    )


def probe_image(modes: NDArray[np.complexfloating]) -> str:
    """Amplitude above phase of each mode (modes, N, N), with its part of the power."""
    shown = modes[:_MODES]
    powers = mode_powers(modes)
    figure = _figure(1.9 * max(2, len(shown)), 4.0)
    rows = np.atleast_2d(figure.subplots(2, len(shown), squeeze=False))
    for column, (mode, power) in enumerate(zip(shown, powers, strict=False)):
        above, below = rows[0, column], rows[1, column]
        above.imshow(np.abs(mode), cmap="viridis")
        above.set_title(f"mode {column + 1}: {power:.1%}", fontsize=9)
        below.imshow(np.angle(mode), cmap="twilight", vmin=-np.pi, vmax=np.pi)
        for axes in (above, below):
            axes.set_xticks([])
            axes.set_yticks([])
    return _png(figure)


def mode_powers(modes: NDArray[np.complexfloating]) -> list[float]:
    """The part of the probe's power that each mode has."""
    powers = np.sum(np.abs(modes) ** 2, axis=(1, 2))
    total = powers.sum()
    return [float(power / total) if total else 0.0 for power in powers]


def positions_image(before_m: NDArray[np.float64], after_m: NDArray[np.float64]) -> str:
    """Positions (M, 2) [x, y] in metres before and after, with a line between the two of each."""
    figure = _figure(6.4, 6.0)
    axes = figure.add_subplot()
    (before, after), unit = _in_common_unit(before_m, after_m)
    size = float(np.clip(2000.0 / len(before), 0.5, 12.0))
    axes.plot(
        np.stack((before[:, 0], after[:, 0])), np.stack((before[:, 1], after[:, 1])), "-", lw=0.6, c="0.6"
    )
    axes.scatter(before[:, 0], before[:, 1], s=size, c="tab:blue", label="before")
    axes.scatter(after[:, 0], after[:, 1], s=size, c="tab:red", label="after")
    axes.set_aspect("equal")
    axes.invert_yaxis()  # as the object is shown
    axes.set(xlabel=f"x / {unit}", ylabel=f"y / {unit}")
    axes.legend(loc="upper right")
    return _png(figure)


def _in_common_unit(*arrays: NDArray[np.float64]) -> tuple[list[NDArray[np.float64]], str]:
    largest = max(float(np.abs(array).max()) for array in arrays)
    unit, name = (1e-6, "µm") if largest < 1e-2 else (1e-3, "mm")
    return [array / unit for array in arrays], name


def losses_image(curves: Mapping[str, Sequence[tuple[int, float]]], label: str) -> str:
    """Values by epoch; on a logarithmic scale where all are above 0."""
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot([epoch for epoch, _ in curve], [value for _, value in curve], ".-", label=name)
    values = [value for curve in curves.values() for _, value in curve]
    if values and min(values) > 0:
        axes.set_yscale("log")
    axes.set(xlabel="Epoch", ylabel=label)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3, which="both")
    if len(curves) > 1:
        axes.legend()
    return _png(figure)


def rings_image(rings: RingCorrelation, pixel_m: float) -> str:
    """Correlation by ring, with the half-bit threshold, over periods per length."""
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    draw_rings(axes, rings, pixel_m)
    return _png(figure)


def confidence_image(confidence: Confidence) -> str:
    """The map of confidence."""
    height, width = confidence.expected_error.shape
    figure = _figure(7.0, min(14.0, 0.8 + 5.6 * max(0.2, height / width)))
    draw_map(figure.add_subplot(), confidence)
    return _png(figure)


def embedded(png: bytes) -> str:
    """The ``data:`` address of an image."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png(figure: Figure, **options: Any) -> str:
    image = io.BytesIO()
    figure.savefig(image, format="png", **{"dpi": 110, **options})
    return embedded(image.getvalue())
