"""How far an object is to be believed: the error that is expected of each pixel, and rings between halves."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..files import replacing

if TYPE_CHECKING:
    from .metrics import RingCorrelation

DOUBTFUL = 0.5
"""Confidence below which a pixel is doubtful: what is expected to be wrong there outweighs the object."""

CONTRADICTED = 4.0
"""How many times as much as noise what no pattern asks for counts.

Noise is as often one way as the other, and a feature shows through it. What is in the object against the
patterns looks like a feature itself: a quarter of the contrast is enough to doubt it.
"""

_ARRAYS = ("spread", "departure", "contrast", "frequency", "correlation", "threshold", "cutoff")


@dataclass(frozen=True, eq=False)
class Confidence:
    """How far an object is to be believed, as the patterns of its scan have it.

    Attributes
    ----------
    spread
        (H, W) float32, on the grid of the object, in its unit (1 where all light passes): root mean square of
        what a pixel's complex value is expected to be wrong by for noise, by how far halves of the scan
        disagree; NaN where there was no light.
    departure
        (H, W) float32, likewise: how far the object departs from what the halves agree on, less what the
        spread explains.
    contrast
        Root mean square of what the lit object departs from its mean by, in the same unit.
    rings
        Correlation between the objects of the scan's halves, ring by ring; None where too little is lit by
        both to tell.

    Examples
    --------
    >>> spread = np.array([[0.01, 0.1], [0.0, np.nan]], np.float32)
    >>> departure = np.array([[0.0, 0.0], [0.1, np.nan]], np.float32)
    >>> found = Confidence(spread, departure, contrast=0.1, rings=None)
    >>> found.map.round(2).tolist()
    [[0.99, 0.5], [0.06, nan]]
    >>> round(found.doubtful, 2), round(float(found.expected_error[1, 0]), 2)
    (0.33, 0.1)
    """

    spread: NDArray[np.float32]
    departure: NDArray[np.float32]
    contrast: float
    rings: RingCorrelation | None

    @property
    def expected_error(self) -> NDArray[np.float32]:
        """(H, W) root mean square of what a pixel's complex value is expected to be wrong by, for either."""
        return np.asarray(np.hypot(self.spread, self.departure), np.float32)

    @property
    def map(self) -> NDArray[np.float32]:
        """(H, W) float32 confidence, 0 to 1: the part of what is seen that is object, and not error.

        ``c² / (c² + s² + (4 d)²)`` with contrast c, spread s and departure d: a Wiener filter's weight that
        takes a departure for :data:`CONTRADICTED` times as much; NaN where unlit.
        """
        wrong = np.hypot(self.spread, np.float32(CONTRADICTED) * self.departure)
        contrast = np.float32(max(self.contrast, 1e-12))  # an even object has none: nothing stands out of it
        return np.asarray(1.0 / (1.0 + (wrong / contrast) ** 2), np.float32)

    @property
    def mean(self) -> float:
        """Mean confidence of the lit object, 0 to 1."""
        return float(np.nanmean(self.map, dtype=np.float64))

    @property
    def doubtful(self) -> float:
        """Part of the lit object whose confidence is below :data:`DOUBTFUL`."""
        confidence = self.map
        lit = np.isfinite(confidence)
        return float((confidence[lit] < DOUBTFUL).mean())

    def half_period(self, pixel_size: float = 1.0) -> float | None:
        """Half-period resolution between the halves, in the unit of ``pixel_size``.

        None where it is no coarser than a pixel, and where there are no rings.
        """
        return None if self.rings is None else self.rings.half_period(pixel_size)

    def save(self, path: Path) -> None:
        """Write an NPZ file, replaced atomically, with the arrays named as the attributes.

        ``frequency``, ``correlation``, ``threshold`` and ``cutoff`` are those of the rings: empty where there
        are none; a cutoff that there is not is NaN.
        """
        rings = self.rings
        empty = np.zeros(0)
        cutoff = np.nan if rings is None or rings.cutoff is None else rings.cutoff
        with replacing(path) as file:
            np.savez_compressed(
                file,
                spread=self.spread,
                departure=self.departure,
                contrast=np.float64(self.contrast),
                frequency=empty if rings is None else rings.frequency,
                correlation=empty if rings is None else rings.correlation,
                threshold=empty if rings is None else rings.threshold,
                cutoff=np.float64(cutoff),
            )

    @classmethod
    def load(cls, path: Path) -> Confidence:
        """Inverse of :meth:`save`.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a file; the message names it.
        """
        from .metrics import RingCorrelation  # with it comes a library of images, which few who load need

        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _ARRAYS}
            rings, cutoff = None, float(arrays["cutoff"])
            if arrays["frequency"].size:
                rings = RingCorrelation(
                    arrays["frequency"],
                    arrays["correlation"],
                    arrays["threshold"],
                    None if np.isnan(cutoff) else cutoff,
                )
            spread, departure = (np.asarray(arrays[name], np.float32) for name in ("spread", "departure"))
            found = cls(spread, departure, float(arrays["contrast"]), rings)
            if found.spread.ndim != 2 or found.spread.shape != found.departure.shape:
                raise ValueError(f"its arrays have the shapes {found.spread.shape}, {found.departure.shape}")
        except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as exc:
            raise ValueError(f'"{path}" is not a map of confidence that can be read: {exc}') from exc
        return found
