"""Pictures of results beside the truth: what a number does not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptychopinn_ptychodus.data import metrics

from .make import MadeScan


def draw(scan: MadeScan, object_: NDArray[np.complex64], probe: NDArray[np.complex64], path: Path) -> None:
    """Object, its power spectrum and the probe; aligned, and on the grey scales of the truth below it."""
    x, y = scan.positions.T
    lit = metrics.illumination_mask(scan.probe, x, y, scan.object.shape)
    inside = np.where(lit)
    crop = np.s_[inside[0].min() : inside[0].max() + 1, inside[1].min() : inside[1].max() + 1]
    figure = Figure(figsize=(15, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 4)
    aligned = metrics.align(object_, scan.object, lit)[0]
    shown: tuple[tuple[Any, str], ...] = ((np.abs, "amplitude"), (np.angle, "phase"))
    rows: list[tuple[str, NDArray[Any], NDArray[Any]]]
    rows = [("found", aligned, probe), ("true", scan.object, scan.probe)]
    for row, (name, image, beam) in enumerate(rows):
        for column, (part, label) in enumerate(shown):
            low, high = np.percentile(part(scan.object)[lit], (0.5, 99.5))
            axes[row, column].imshow(part(image)[crop], cmap="gray", vmin=low, vmax=high)
            axes[row, column].set_title(f"{name}: {label}")
        cut = image[crop] - image[crop].mean()
        window = np.multiply.outer(*(np.hanning(size) for size in cut.shape))
        spectrum = np.log10(np.abs(np.fft.fftshift(np.fft.fft2(cut * window))) ** 2 + 1e-12)
        axes[row, 2].imshow(spectrum, cmap="magma", vmin=np.percentile(spectrum, 30))
        axes[row, 2].set_title("power spectrum, log")
        axes[row, 3].imshow(np.sqrt((np.abs(beam) ** 2).sum(0)), cmap="magma")
        axes[row, 3].set_title("probe")
    figure.savefig(path, dpi=60)
