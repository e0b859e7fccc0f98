"""Pictures of results: a product's object, and the demo's comparison with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.display import centred_phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_object(product_file: Path, path: Path) -> None:
    """Amplitude and phase of a product's object, in micrometres."""
    from ptychodus.api.io import load_product

    product = load_product(product_file)
    array = np.asarray(product.object_.get_layer(0))
    geometry = product.object_.get_geometry()
    width = array.shape[1] * geometry.pixel_width_m * 1e6
    height = array.shape[0] * geometry.pixel_height_m * 1e6
    extent = (0.0, width, height, 0.0)
    figure = _figure(10, 4.6)
    images = (np.abs(array), centred_phase(array))
    for axes, title, image in zip(figure.subplots(1, 2), ("Amplitude", "Phase (rad)"), images, strict=True):
        _show(axes, image, title, *np.percentile(image, (0.5, 99.5)), extent=extent)
        axes.set_xlabel("µm")
    _save(figure, path)


def draw_comparison(
    truth: NDArray[np.complexfloating],
    found: NDArray[np.complexfloating],
    losses: Mapping[str, Sequence[tuple[int, float]]],
    scores: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Truth and aligned reconstruction, amplitude above phase, on common scales; losses beside them."""
    figure = _figure(13, 7.2)
    figure.suptitle(title)
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.15))
    rows = (
        ("Amplitude", np.abs(truth), np.abs(found)),
        ("Phase (rad)", np.angle(truth), _near(found, truth)),
    )
    for row, ((name, true_image, found_image), score) in enumerate(zip(rows, scores, strict=True)):
        low, high = float(true_image.min()), float(true_image.max())
        _show(figure.add_subplot(grid[row, 0]), true_image, f"{name}: truth", low, high)
        _show(figure.add_subplot(grid[row, 1]), found_image, f"{name}: reconstruction\n{score}", low, high)
    axes = figure.add_subplot(grid[:, 2])
    for label, curve in losses.items():
        axes.plot([epoch for epoch, _ in curve], [value for _, value in curve], ".-", label=label)
    values = [value for curve in losses.values() for _, value in curve]
    if values and min(values) > 0:
        axes.set_yscale("log")
    axes.set(title="Loss", xlabel="Epoch")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _near(array: NDArray[np.complexfloating], truth: NDArray[np.complexfloating]) -> NDArray[np.floating]:
    phase: NDArray[np.floating] = np.angle(truth) + np.angle(array * np.conj(truth))
    return phase


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _show(axes: Axes, image: Any, title: str, low: float, high: float, **options: Any) -> None:
    drawn = axes.imshow(image, cmap="gray", vmin=low, vmax=high, **options)
    axes.set_title(title)
    if "extent" not in options:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.figure.colorbar(drawn, ax=axes, shrink=0.85)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
