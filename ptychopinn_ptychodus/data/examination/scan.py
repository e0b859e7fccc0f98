"""The scan as a whole: where the patterns are centred, where they were taken, and how bright they are."""

from __future__ import annotations

from ..raw import RawData
from .config import ExaminationConfig
from .findings import Report


def examine_scan(raw: RawData, config: ExaminationConfig) -> tuple[RawData, Report]:
    """Examine a scan before anything is learnt or computed from it.

    Returns
    -------
    tuple
        The scan, mended where that was possible, and all findings: those of ``raw.findings`` first.

    Raises
    ------
    ExaminationError
        If the scan is refused; its report has the other findings as well.
    """
    report = raw.findings
    report.require_accepted()
    return raw, report
