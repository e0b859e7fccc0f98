"""Patterns cropped or padded to N × N, and what depends on their size: mask, probe, object, positions.

A pixel of the object is λz/(N p), where p is the detector's: patterns of fewer pixels have an object of
larger ones, and of more, smaller ones. The field of view, λz/p, is the same. Rows and columns are taken each
by itself, so that patterns that are not square, whose object has pixels that are not square either, have
square ones afterwards.

What is added around a pattern was not measured: it counts as bad pixels, and not as places without light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import large_arrays
from .detector import PATTERNS
from .examination.centring import find_centre
from .examination.config import ExaminationConfig
from .examination.findings import Action, Finding, Report
from .examination.statistics import MOST_SAMPLED, far_field, pixel_statistics

SETTING = "PtychoPINNPluginData.PatternSize"


@dataclass(frozen=True)
class PatternWindow:
    """The N × N pixels around the zero frequency of patterns of another size.

    Attributes
    ----------
    shape
        (rows, columns) of the patterns; the zero frequency is at pixel (rows // 2, columns // 2).
    size
        N, pixels.
    """

    shape: tuple[int, int]
    size: int

    @classmethod
    def asked_for(cls, shape: tuple[int, ...], config: ExaminationConfig) -> PatternWindow | None:
        """What ``config`` makes of patterns of ``shape``, (..., rows, columns); None: nothing."""
        rows, columns = shape[-2:]
        if config.pattern_size is None or rows == columns == config.pattern_size:
            return None
        return cls((rows, columns), config.pattern_size)

    @property
    def scales(self) -> tuple[float, float]:
        """Pixels of the object afterwards for each one before, along (rows, columns)."""
        return self.size / self.shape[0], self.size / self.shape[1]

    @property
    def is_padded(self) -> bool:
        """Whether pixels are added along an axis."""
        return min(self.shape) < self.size

    @property
    def is_cropped(self) -> bool:
        """Whether pixels are left out along an axis."""
        return max(self.shape) > self.size

    def of(self, array: NDArray[Any], fill: Any) -> NDArray[Any]:
        """(..., rows, columns) → (..., N, N), with ``fill`` where the array has nothing; a view if it can."""
        return _around_middle(array, (self.size, self.size), fill)

    def patterns(self, patterns: NDArray[Any], roll: tuple[int, int] = (0, 0)) -> NDArray[Any]:
        """(M, rows, columns) → (M, N, N) of the same type, each rolled before; what is added holds 0.

        Raises
        ------
        NoRoomError
            If there is no room for what has to be copied and is large.
        """
        if not (self.is_padded or any(roll)):
            return self.of(patterns, 0)
        found = large_arrays.empty((len(patterns), self.size, self.size), patterns.dtype, PATTERNS)
        for part in large_arrays.blocks(found):
            found[part] = self.of(np.roll(patterns[part], roll, (1, 2)), 0)
        return found

    def mask(self, bad_pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(rows, columns) bool → (N, N), True where pixels were added.

        Raises
        ------
        ValueError
            If no good pixel is left.
        """
        found: NDArray[np.bool_] = self.of(bad_pixels, fill=True)
        if found.all():
            raise ValueError(
                f"All {self.size} × {self.size} pixels that {SETTING} leaves of the patterns are bad: choose "
                "a larger size, or repair the mask."
            )
        return found.copy()

    def probe(self, probe: NDArray[Any]) -> NDArray[Any]:
        """(..., rows, columns) complex → (..., N, N): what of its far field falls on the N × N pixels.

        The middle of the array stays where it is in the plane of the object; Σ|P|² loses what is left out.
        """
        axes = (-2, -1)
        spectrum = np.fft.fftshift(
            np.fft.fft2(np.fft.ifftshift(probe.astype(np.complex128), axes), norm="ortho"), axes
        )
        spectrum = self.of(spectrum, 0)
        # of an even number of pixels, the one that transforms turn around is half a pixel off the middle
        frequency = np.arange(self.size) - self.size // 2
        for axis, count in zip(axes, self.shape, strict=True):
            moved = _off_middle(self.size) / self.size - _off_middle(count) / count
            ramp = np.exp(2j * np.pi * moved * frequency)
            spectrum = spectrum * (ramp[:, None] if axis == axes[0] else ramp)
        found = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum, axes), norm="ortho"), axes)
        return found.astype(probe.dtype)

    def object_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Pixels that an object of ``shape`` has afterwards."""
        rows, columns = (math.ceil(n * scale - 1e-9) for n, scale in zip(shape, self.scales, strict=True))
        return rows, columns

    def object(self, array: NDArray[Any]) -> NDArray[Any]:
        """(H, W) complex on the pixels that there are afterwards, around the same middle."""
        shape = self.object_shape((array.shape[0], array.shape[1]))
        steps = [1 / scale for scale in self.scales]
        # what larger pixels cannot show must not turn into something else
        smooth = ndimage.gaussian_filter(array, [max(0.0, (s - 1) / 2) for s in steps], mode="nearest")
        offset = [
            (old - 1) / 2 - step * (new - 1) / 2
            for old, new, step in zip(array.shape, shape, steps, strict=True)
        ]
        found: NDArray[Any] = ndimage.affine_transform(smooth, steps, offset, shape, order=3, mode="nearest")
        return found.astype(array.dtype, copy=False)

    def positions(
        self, values: NDArray[np.float64], axis: int, shape: tuple[int, int] | None
    ) -> NDArray[np.float64]:
        """(M,) rows (``axis`` 0) or columns (1), in pixels of an object of ``shape``, if there is one."""
        scale = self.scales[axis]
        moved = (values + 0.5) * scale - 0.5
        if shape is not None:
            moved += (self.object_shape(shape)[axis] - shape[axis] * scale) / 2
        return moved


def _around_middle(array: NDArray[Any], shape: tuple[int, int], fill: Any) -> NDArray[Any]:
    """The last two axes with the pixel at half of them at half of ``shape``."""
    source, target = [], []
    for before, after in zip(array.shape[-2:], shape, strict=True):
        first = before // 2 - after // 2
        start, place = max(0, first), max(0, -first)
        length = min(before - start, after - place)
        source.append(slice(start, start + length))
        target.append(slice(place, place + length))
    seen: NDArray[Any] = array[..., source[0], source[1]]
    if seen.shape[-2:] == shape:
        return seen
    found = np.full((*array.shape[:-2], *shape), fill, array.dtype)
    found[..., target[0], target[1]] = seen
    return found


def _off_middle(count: int) -> float:
    """Pixels between pixel count // 2 and the middle of as many."""
    return count // 2 - (count - 1) / 2


def prepare_patterns(
    patterns: NDArray[Any],
    bad_pixels: NDArray[np.bool_],
    probe: NDArray[np.complex64],
    window: PatternWindow,
    config: ExaminationConfig,
) -> tuple[tuple[int, int], Report]:
    """What has to be known of patterns before they are cropped or padded.

    Parameters
    ----------
    patterns
        (M, rows, columns), as they were stored.
    bad_pixels
        (rows, columns) bool.
    probe
        (modes, rows, columns), or (modes, N, N).
    window
        What becomes of them.
    config
        What the user has decided.

    Returns
    -------
    tuple
        By how many (rows, columns) each is to be rolled before, where the zero frequency is in the corner;
        and the findings.

    Raises
    ------
    ExaminationError
        If it is there, and they are not to be rolled.
    """
    chosen = np.unique(np.linspace(0, len(patterns) - 1, MOST_SAMPLED).astype(np.intp))
    pixels = pixel_statistics(patterns, chosen, "amplitude" if patterns.dtype.kind == "f" else "counts")
    good = ~bad_pixels
    if patterns.dtype.kind in "iu":
        good &= pixels.least < np.iinfo(patterns.dtype).max
    model = _around_middle(far_field(probe), window.shape, 0.0)
    fit, said = find_centre(pixels.mean, good, model, config)
    # by how little they are off the middle is said of what remains
    report = Report(tuple(finding for finding in said if finding.code == "corner-centred"))
    report.require_accepted()
    roll = fit.half if config.centre_patterns else (0, 0)
    light = np.roll(np.where(good, pixels.mean, 0.0), roll, (0, 1))
    left_out = 1 - float(window.of(light, 0.0).sum()) / max(float(light.sum()), 1e-30)
    return roll, report + Report((_finding(window, left_out if light.any() else 0.0),))


def _finding(window: PatternWindow, left_out: float) -> Finding:
    (rows, columns), n = window.shape, window.size
    verbs = ["cropped"] * window.is_cropped + ["padded"] * window.is_padded
    done = [f"They are {' and '.join(verbs)} to {n} × {n} around the zero frequency, as the setting says."]
    if window.is_cropped:
        done.append(f"What is left out holds {left_out:.2g} of the light.")
    if window.is_padded:
        done.append("What is added counts as bad pixels.")
    down, across = (1 / scale for scale in window.scales)
    done.append(
        f"A pixel of the object is {down:.4g} times as high and {across:.4g} times as wide as one for whole "
        "patterns."
    )
    return Finding(
        "pattern-size",
        "detector",
        Action.NOTED,
        f"The patterns were stored with {rows} × {columns} pixels (rows × columns).",
        " ".join(done),
        SETTING,
        {"rows": rows, "columns": columns, "size": n, "left_out": left_out},
    )
