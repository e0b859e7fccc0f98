"""What the worker does about faults of a scan: it examines before it computes, and judges what came out."""

from __future__ import annotations

import logging

from ..data.examination import ExaminationConfig, ExaminationError, Report
from ..data.examination.scan import examine_scan
from ..data.raw import RawData
from .worker_learning import Send

logger = logging.getLogger("PtychoPINN-Plugin")


def examined(raw: RawData, config: ExaminationConfig, send: Send, source: str = "") -> RawData:
    """The scan as it can be computed with; what was found goes to the log and to the parent.

    ``source`` names the file, where there may be several.

    Raises
    ------
    ExaminationError
        If the scan is refused. What else was found has been told by then.
    """
    try:
        scan, report = examine_scan(raw, config)
    except ExaminationError as exc:
        tell(exc.report, send, source, refused=True)
        raise ExaminationError(f"{source}: {exc}" if source else str(exc), exc.report) from exc
    tell(report, send, source)
    return scan


def tell(report: Report, send: Send, source: str = "", *, refused: bool = False) -> None:
    """Log findings and send them to the parent; what was refused is an error, which is logged elsewhere."""
    for finding in report.findings:
        if not (refused and finding.action == "refused"):
            level = logging.WARNING if finding.is_warning else logging.INFO
            logger.log(level, "%s%s", f"{source}: " if source else "", finding.text)
    if report:
        send("findings", findings=report.to_json())
