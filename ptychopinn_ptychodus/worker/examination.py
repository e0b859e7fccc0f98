"""What the worker does about faults of a scan: it examines before it computes, and judges what came out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..data.estimate import Estimate
from ..data.examination import Action, ExaminationConfig, ExaminationError, Finding, Report
from ..data.examination.scan import examine_scan
from ..data.raw import RawData
from ..ptychodus_io.names import LIBRARY
from ..refinement.iterate import Light
from ..refinement.report import Refined
from ..verdict import conjugate_taken, judge, positions_moved, positions_searched
from .job import ReconstructJob, RefineJob
from .wire import Send

logger = logging.getLogger(LIBRARY)


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
        tell(exc.report, send, source)
        raise ExaminationError(f"{source}: {exc}" if source else str(exc), exc.report) from exc
    tell(report, send, source)
    return scan


def judged(
    raw: RawData,
    found: Estimate,
    refined: Refined | None,
    job: ReconstructJob | RefineJob,
    on_progress: Callable[[float], None],
    should_stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """The verdict on what was ``found``, logged, and for the result message.

    ``refined`` is what the refinement said of it; None: it is the network's own. A verdict that fails is a
    finding like others: the object is there, and must not be lost to it. That the conjugate of the probe was
    taken, or that positions were moved far, is no matter of judgement, and is told in any case.
    """
    taken = Report(tuple(_taken(raw, refined)))
    if not job.examination.judge:
        taken.log(logger)
        return taken.to_json()
    if refined is not None:
        metric = refined.metric
    else:
        metric = "amplitude" if job.refinement is None else job.refinement.error_metric
    try:
        finding = judge(
            raw,
            found.object,
            found.probe,
            found.positions,
            metric=metric,
            error=None if refined is None else refined.error,
            weights=None if refined is None else refined.weights,
            light=Light() if refined is None else refined.light,
            conjugated=refined is not None and refined.conjugated,
            should_stop=should_stop,
            on_progress=on_progress,
            device=job.device,
        )
    except Exception as exc:
        logger.exception("The result could not be judged")
        finding = Finding(
            "not-judged",
            "result",
            Action.IGNORED,
            f"Whether the object explains the patterns could not be found out: {type(exc).__name__}: {exc}.",
            "The result is handed over as it is: look at it, and compare it with another reconstruction.",
            "PtychoPINNPluginExamination.Judge",
        )
    report = taken + Report((finding,))
    report.log(logger)
    return report.to_json()


def _taken(raw: RawData, refined: Refined | None) -> Iterator[Finding]:
    """What a refinement had to take otherwise than it was given."""
    if refined is None:
        return
    if refined.conjugated:
        yield conjugate_taken()
    if refined.searched:
        yield positions_searched(refined.searched)
    elif moved := positions_moved(np.stack((raw.xcoords, raw.ycoords), -1), refined.positions):
        yield moved


def tell(report: Report, send: Send, source: str = "") -> None:
    """Log findings and send them to the parent."""
    report.log(logger, source)
    if report:
        send("findings", findings=report.to_json())
