"""The scan as a whole: which patterns lack the beam, and where they were taken."""

from __future__ import annotations

from ..raw import RawData
from .config import ExaminationConfig
from .findings import Report
from .frames import examine_frames
from .positions import examine_positions


def examine_scan(raw: RawData, config: ExaminationConfig) -> tuple[RawData, Report]:
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
    report = raw.findings + Report((*examine_positions(raw, config), *examine_frames(raw)))
    report.require_accepted()
    examined = raw.select(slice(None))
    examined.findings = report
    return examined, report
