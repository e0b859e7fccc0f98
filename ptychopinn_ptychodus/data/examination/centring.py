"""Finds where the patterns are centred, by comparing them with the far field of the probe."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .config import ExaminationConfig
from .findings import Action, Finding

SETTING = "PtychoPINNPluginExamination.CentrePatterns"

_HALF_GAIN, _HALF_FIT = 0.25, 0.4
"""Patterns are shifted by N/2 if that raises their correlation with the far field.

The correlation has to become larger by more than the first of these, and larger than the second.
"""

_NEAR_HALF = 2  # pixels between that shift and the best one
_SHIFT_FIT = 0.6
_SHIFT_MISFIT, _PIXEL_MISFIT = 0.6, 0.35
"""Largest part of the misfit 1 - c² that may remain at the best shift, for it to be believed.

The first is for shifts of two pixels and more, the second for shifts of one pixel.
"""

_LEAST_SEEN, _LEAST_SEEN_HALF = 0.5, 0.3
"""Least part of the far field on good pixels for a shift to be found: of any size, and by N/2."""


@dataclass(frozen=True)
class FarFieldFit:
    """How well patterns fit the probe's far field.

    Attributes
    ----------
    correlation
        The correlation without a shift, between 0 and 1.
    best
        The largest correlation.
    shift
        (rows, columns) at which it is reached, each from -N/2 to N/2 - 1: the patterns' centre, less
        (N/2, N/2).
    seen
        Part of the far field that lies on good pixels without a shift.
    half
        (rows, columns), each 0 or N/2: the shift by half the size, if the patterns clearly have one.
    """

    correlation: float
    best: float
    shift: tuple[int, int]
    seen: float
    half: tuple[int, int] = (0, 0)


def correlations(
    mean: NDArray[np.float64], good: NDArray[np.bool_], model: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation of √mean with √model over good pixels, for each cyclic shift of the model.

    Parameters
    ----------
    mean
        (N, N), mean pattern.
    good
        (N, N) bool.
    model
        (N, N), from :func:`.statistics.far_field`.

    Returns
    -------
    tuple
        Correlations, (N, N), whose element (r, c) belongs to the model moved by r rows and c columns; and
        the parts of the model that then lie on good pixels, (N, N).
    """
    fft, ifft = np.fft.rfft2, np.fft.irfft2
    data = np.sqrt(np.where(good, mean, 0.0))
    energy = float((data**2).sum())
    seen = np.clip(ifft(fft(good.astype(float)) * fft(model).conj(), s=good.shape), 0.0, 1.0)
    if energy == 0:
        return np.zeros_like(seen), seen
    product = ifft(fft(data) * fft(np.sqrt(model)).conj(), s=good.shape)
    return product / np.sqrt(energy * np.maximum(seen, 1e-3)), seen


def find_centre(
    mean: NDArray[np.float64],
    good: NDArray[np.bool_],
    model: NDArray[np.float64],
    config: ExaminationConfig,
) -> tuple[FarFieldFit, list[Finding]]:
    """Compare the mean pattern with the far field: the fit, and the findings."""
    rows, columns = good.shape
    half = (rows // 2, columns // 2)
    fit_at, seen_at = correlations(mean, good, model)
    row, column = np.unravel_index(int(fit_at.argmax()), fit_at.shape)
    shift = (int(row + half[0]) % rows - half[0], int(column + half[1]) % columns - half[1])
    fit = FarFieldFit(float(fit_at[0, 0]), float(fit_at.max()), shift, float(seen_at[0, 0]))
    at = max((half, (half[0], 0), (0, half[1])), key=lambda place: float(fit_at[place]))
    near = all(
        abs((one - other + middle) % n - middle) <= _NEAR_HALF
        for one, other, middle, n in zip(shift, at, half, good.shape, strict=True)
    )
    if (
        near
        and fit_at[at] > fit.correlation + _HALF_GAIN
        and fit_at[at] > _HALF_FIT
        and seen_at[at] > _LEAST_SEEN_HALF
    ):
        return replace(fit, half=at), [_half(at, fit, float(fit_at[at]), config)]
    remains = (1 - fit.best**2) / max(1 - fit.correlation**2, 1e-12)
    largest = max(map(abs, shift))
    clear = remains < (_PIXEL_MISFIT if largest < 2 else _SHIFT_MISFIT)
    found = min(fit.seen, float(seen_at[row, column])) > _LEAST_SEEN
    if largest and clear and found and fit.best > _SHIFT_FIT:
        return fit, [_off_centre(fit, half)]
    return fit, []


def _half(at: tuple[int, int], fit: FarFieldFit, best: float, config: ExaminationConfig) -> Finding:
    rows, columns = at
    seen = (
        f"The patterns fit the far field of the probe when they are shifted by {rows} rows and {columns} "
        f"columns, half their size (correlation {best:.2f}), and not as they are ({fit.correlation:.2f})."
    )
    values = {"rows": rows, "columns": columns, "correlation": fit.correlation, "shifted": best}
    if config.centre_patterns:
        done = "They are shifted, so that the zero frequency lies in the middle."
        return Finding("corner-centred", "detector", Action.MENDED, seen, done, SETTING, values)
    remedy = (
        "Store the patterns with the zero frequency in the middle, at (N/2, N/2), or have them shifted: set "
        "CentrePatterns to True."
    )
    if config.refuse:
        return Finding("corner-centred", "detector", Action.REFUSED, seen, remedy, SETTING, values)
    done = f"They are used as they are, and the result will be wrong. {remedy}"
    return Finding("corner-centred", "detector", Action.IGNORED, seen, done, SETTING, values)


def _off_centre(fit: FarFieldFit, middle: tuple[int, int]) -> Finding:
    rows, columns = fit.shift
    down = f"{abs(rows)} row{'s' * (abs(rows) != 1)} {'below' if rows >= 0 else 'above'}"
    across = f"{abs(columns)} column{'s' * (abs(columns) != 1)} to the {'right' if columns >= 0 else 'left'}"
    return Finding(
        "off-centre",
        "detector",
        Action.IGNORED,
        f"The patterns lie {down} and {across} of where the far field of the probe has its middle "
        f"(correlation {fit.best:.2f} there, {fit.correlation:.2f} as they are).",
        f"They are used as they are: the object may come out moved, or with a phase ramp. Crop them around "
        f"row {middle[0] + rows}, column {middle[1] + columns}, so that the zero frequency is at (N/2, N/2).",
        values={"rows": rows, "columns": columns, "correlation": fit.correlation, "shifted": fit.best},
    )
