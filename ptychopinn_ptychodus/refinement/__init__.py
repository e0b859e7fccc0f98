"""Refinement after inference: object, probe and positions fitted to the whole scan by gradients.

:func:`.solver.refine` starts from the stitched object of a network, or from any other, and goes on with the
forward model of the rest of the package. Arrays come in and go out as numpy; Ptychodus and Qt are unknown
here, and a framework is imported only for its GPU. Here is what the application needs of it when it starts;
the solver is for the worker to import.
"""

from .config import METRICS, RefinementConfig
from .report import RefinementReport

__all__ = ["METRICS", "RefinementConfig", "RefinementReport"]
