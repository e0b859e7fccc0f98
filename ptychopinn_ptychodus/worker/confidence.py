"""What the worker does to say how far a result is to be believed: a map, rings, a picture, and a finding."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.estimate import Estimate
from ..data.examination import Action, Finding, Report
from ..data.raw import RawData
from ..files import replacing
from ..ptychodus_io.names import LIBRARY
from ..refinement.report import Refined
from ..settings_table import SETTINGS
from ..verdict.confidence import CODE, confidence_finding, confidence_in
from .job import ReconstructJob, RefineJob
from .memory import give_back_free_memory
from .run_files import CONFIDENCE_FILE, CONFIDENCE_PICTURE

logger = logging.getLogger(LIBRARY)

_SETTING = SETTINGS["Examination.Confidence"].full_name


def with_confidence(
    raw: RawData,
    found: Estimate,
    refined: Refined | None,
    job: ReconstructJob | RefineJob,
    directory: Path,
    on_progress: Callable[[float], None],
    should_stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Leave the confidence of what was ``found`` and its picture in ``directory``; findings for the result.

    ``refined`` is what the refinement said of it; None: it is the network's own. Nothing is left, and nothing
    found, where the setting is off or the run was asked to stop. A confidence that cannot be had is a finding
    like others: the object is there, and must not be lost to it.
    """
    if not job.examination.confidence:
        return []
    if should_stop():
        logger.info("The run was stopped: there is no map of confidence.")
        return []
    logger.info("The object is compared with what each half of the scan makes of it.")
    give_back_free_memory()  # a whole run has left it, and two more refinements follow
    metric = "amplitude" if job.refinement is None else job.refinement.error_metric
    try:
        confidence = confidence_in(
            raw,
            found,
            refined,
            metric=metric,
            device=job.device,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        if confidence is None:
            logger.info("The run was stopped: there is no map of confidence.")
            return []
        from .confidence_picture import picture  # here: it takes a while, and comes last

        confidence.save(directory / CONFIDENCE_FILE)
        with replacing(directory / CONFIDENCE_PICTURE) as file:
            file.write(picture(confidence, job.pixel_m))
        finding = confidence_finding(confidence, job.pixel_m)
    except Exception as exc:
        if not isinstance(exc, ValueError | OSError):  # which say all there is to say
            logger.exception("The confidence could not be found out")
        for name in (CONFIDENCE_FILE, CONFIDENCE_PICTURE):
            (directory / name).unlink(missing_ok=True)
        finding = Finding(
            f"no-{CODE}",
            "confidence",
            Action.IGNORED,
            f"How far the object is to be believed could not be found out: {type(exc).__name__}: {exc}",
            "The result is handed over as it is, without a map of confidence.",
            _SETTING,
        )
    report = Report((finding,))
    report.log(logger)
    return report.to_json()
