"""What is said where a refinement moved positions farther than a scan that was recorded well calls for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.examination.findings import Action, Finding

_TOLD = 1.0
"""Pixels, root mean square. On simulated scans whose positions were right, they were moved by 0.5 at most
under steady probes, and by 1.7 to 2.4 under a focus that drifted, which bent the object."""


def positions_moved(recorded: NDArray[np.float64], refined: NDArray[np.float64]) -> Finding | None:
    """The warning that positions, (M, 2) pixels [x, y], were moved by more than a pixel; None: they were not.

    A displacement that all patterns share does not count: it moves the object and nothing else. The subject
    is ``"geometry"``: a result whose positions were put right is not doubtful for that.
    """
    moved = refined - recorded
    moved = moved - moved.mean(0)
    lengths = np.hypot(*moved.T)
    pixels = float(np.sqrt((lengths**2).mean()))
    if pixels < _TOLD:
        return None
    terms = np.column_stack((np.ones(len(recorded)), recorded))
    alone = moved - terms @ np.linalg.lstsq(terms, moved, rcond=None)[0]
    each = float(np.sqrt((alone**2).sum(1).mean()))
    return Finding(
        code="positions-moved",
        subject="geometry",
        action=Action.IGNORED,
        seen=(
            f"The patterns fit better with positions that are MOVED BY {pixels:.3g} PIXELS, root mean "
            f"square, {lengths.max():.3g} at most; {each:.3g} are left of it without what a stretch, a shear "
            "or a turn of the whole scan would explain."
        ),
        done=(
            "The object was made with the moved ones. If the recorded ones are known to be better than that, "
            "something else is wrong that positions make up for, such as a focus that drifts during the "
            "scan, and the object is bent: compare it with one for which their refinement is off."
        ),
        setting="PtychoPINNPluginRefinement.Positions",
        values={"pixels": pixels, "each": each},
    )


def positions_searched(pixels: float) -> Finding:
    """The warning; its subject is ``"result"``, and ``pixels`` is by how much they moved, root mean square.

    Patterns fit better where positions were found, so a verdict by the error alone may find nothing wrong.
    """
    return Finding(
        code="positions-searched",
        subject="result",
        action=Action.IGNORED,
        seen=(
            "The recorded positions contradict the patterns. They were searched for, and MOVED BY "
            f"{pixels:.3g} PIXELS, root mean square, each in its own way."
        ),
        done=(
            "Patterns fit better there, which is no proof: where the object has no features, they fit in "
            "many places. Look whether the object is what it ought to be, and for a cause of the errors: "
            "frames that are stored with the position before their own, encoders that were not read, other "
            "axes or units. If the positions are known to be right, switch their refinement off."
        ),
        setting="PtychoPINNPluginRefinement.Positions",
    )
