"""Refinement after inference: object, probe and positions fitted to the whole scan by gradients.

:func:`refine` starts from the stitched object of a network, or from any other, and goes on with the forward
model of the rest of the package. Arrays come in and go out as numpy; Ptychodus and Qt are unknown here, and a
framework is imported only for its GPU.
"""

from .config import METRICS, RefinementConfig
from .refine import Refined, RefinementReport, refine

__all__ = ["METRICS", "Refined", "RefinementConfig", "RefinementReport", "refine"]
