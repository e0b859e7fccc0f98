"""The scan as a whole: which patterns lack the beam, and where they were taken."""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..probe import probe_width
from ..scan import Scan
from .config import ExaminationConfig
from .findings import Report
from .frames import examine_frames
from .positions import examine_positions


class _Examinable(Scan, Protocol):
    """A scan that holds what has been found in it: :class:`~..raw.RawData`."""

    findings: Report

    def select(self, indices: ArrayLike | slice, /) -> Self:
        """A part of the scan."""
        ...


_AnyScan = TypeVar("_AnyScan", bound=_Examinable)


def examine_scan(raw: _AnyScan, config: ExaminationConfig) -> tuple[_AnyScan, Report]:
    """Examine a scan before anything is learnt or computed from it.

    Parameters
    ----------
    raw
        The scan; its pixels were examined when it was made.
    config
        What the user has decided.

    Returns
    -------
    tuple
        The scan with all findings, and these findings: those of ``raw.findings`` first.

    Raises
    ------
    ExaminationError
        If the scan is refused; its report has the other findings as well.
    """
    report = raw.findings
    known = {finding.code for finding in report.findings}
    width = probe_width(raw.probeGuess)
    for number in np.unique(raw.scan_index):
        members = raw.scan_index == number
        found = examine_positions(raw.xcoords[members], raw.ycoords[members], width, raw.N, config)
        # of a product, where the size of a pixel is known, it has been said already
        report += Report(tuple(finding for finding in found if finding.code not in known))
    report += Report(tuple(examine_frames(raw)))
    report.require_accepted()
    examined = raw.select(slice(None))
    examined.findings = report
    return examined, report
