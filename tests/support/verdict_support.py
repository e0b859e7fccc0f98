"""What the tests of the verdict share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptychopinn_ptychodus.data.examination.findings import Finding
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.report import Refined as Result
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.verdict import judge

__all__ = ["Result", "judged", "refined", "with_fields"]


def with_fields(scan: RawData, **changes: Any) -> RawData:
    """The scan with other positions or amplitudes."""
    fields = {
        "xcoords": scan.xcoords,
        "ycoords": scan.ycoords,
        "diff3d": scan.diff3d,
        "probeGuess": scan.probeGuess,
        "domain": "amplitude",
    }
    return RawData(**{**fields, **changes})


def refined(scan: RawData, epochs: int) -> Result:
    """The scan refined from a flat object, on a grid that holds it."""
    shape = (int(scan.ycoords.max()) + 36, int(scan.xcoords.max()) + 36)
    config = RefinementConfig(epochs=epochs)
    # what is wrong with all positions, or seems so with the probe, is left: the verdict is to find it
    flat = np.ones(shape, complex)
    return refine(
        scan, flat, scan.probeGuess, config, device="cpu", quiet=True, stages=~(Stages.PUPIL | Stages.TERMS)
    )


def judged(scan: RawData, result: Result | None = None, **changes: Any) -> Finding:
    """The verdict on a refinement of the scan, by default a short one."""
    result = refined(scan, epochs=4) if result is None else result
    arguments = {
        "positions": result.positions,
        "metric": "amplitude",
        "error": result.error,
        "weights": result.weights,
        "light": result.light,
        "device": "cpu",
    }
    return judge(scan, result.object, result.probe, **{**arguments, **changes})
