"""What is said where a refinement had to search for positions."""

from __future__ import annotations

from ..data.examination.findings import Action, Finding

CODE = "positions-searched"


def positions_searched(pixels: float) -> Finding:
    """The warning; its subject is ``"result"``, and ``pixels`` is by how much they moved, root mean square.

    Patterns fit better where positions were found, so a verdict by the error alone may find nothing wrong.
    """
    return Finding(
        code=CODE,
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
