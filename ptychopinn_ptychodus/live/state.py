"""How a live reconstruction stands, and what there is of it at one moment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.examination import Report
from .frames import FrameCounts


@dataclass(frozen=True)
class LiveState:
    """How a live reconstruction stands.

    Attributes
    ----------
    counts
        What became of the frames that were taken up.
    in_object
        Frames whose position is known and that the object has been fitted to, or that show nothing of it.
    lag
        Frames that came, and are to be fitted to as soon as there is time: those without a position are not
        among them.
    lag_s
        How long the oldest of them has waited, seconds.
    frames_per_second
        Frames that the object was fitted to, over the last seconds.
    error
        See :attr:`.GrowingObject.error`; NaN before there is one.
    seconds
        Since the start.
    notes
        What a person has to know of frames that do not take part, in sentences.
    findings
        What the examination has to say of the patterns, as soon as enough came to tell: that they look like
        amplitude where they are taken as counts. It is logged once, too.
    """

    counts: FrameCounts = field(default_factory=FrameCounts)
    in_object: int = 0
    lag: int = 0
    lag_s: float = 0.0
    frames_per_second: float = 0.0
    error: float = math.nan
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    findings: Report = field(default_factory=Report)

    def line(self) -> str:
        """One line for people."""
        parts = [f"{self.in_object} frames in the object", f"{self.frames_per_second:.0f} frames/s"]
        parts.append(f"lag {self.lag} frames ({self.lag_s:.1f} s)")
        if math.isfinite(self.error):
            parts.append(f"error {self.error:.3g}")
        counts = self.counts
        odd = (
            (counts.waiting, "without a position"),
            (counts.missing, "missing"),
            (counts.doubled, "doubled"),
            (counts.damaged, "damaged"),
        )
        parts += [f"{count} {what}" for count, what in odd if count]
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class LiveObject:
    """What there is at one moment.

    Attributes
    ----------
    object
        (H, W) complex64, which just holds the frames.
    probe
        (modes, N, N) complex64, in counts.
    origin
        ``[x, y]`` of the object's first pixel, in the pixels of the positions.
    state
        How the reconstruction stood.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    origin: tuple[float, float]
    state: LiveState
