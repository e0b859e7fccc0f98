"""The parts of a refinement that may be left out, in their order."""

from __future__ import annotations

from enum import Flag, auto


class Stages(Flag):
    """What a refinement does beside its epochs, in this order; ``~Stages.SEARCH`` is all but one.

    Those that change the probe or the positions are done only where these are refined.
    """

    NONE = 0
    PUPIL = auto()
    """Put the probe right in its pupil before the epochs, see :mod:`.pupil`."""
    TERMS = auto()
    """Put right before them what the errors of all positions have in common, see :mod:`.position_terms`."""
    VARIATION = auto()
    """Let the probe vary over the scan where the patterns call for it, see :mod:`.varying_probe`."""
    SEARCH = auto()
    """After the epochs, look far around for each position where what they leave of the patterns is far from
    noise, see :mod:`.position_search`, and refine what is found, its terms first. It needs :attr:`TERMS`."""
    ALL = PUPIL | TERMS | VARIATION | SEARCH
