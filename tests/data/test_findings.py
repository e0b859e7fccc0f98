"""The report of an examination: as text, as JSON, in files, and with the scan that it is about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ptychopinn_ptychodus.data.examination import Action, ExaminationError, Finding, Report
from ptychopinn_ptychodus.data.raw import RawData

MASKED = Finding(
    "dead-pixels",
    "detector",
    Action.MENDED,
    "3 pixels count nothing.",
    "They are masked.",
    "PtychoPINNPluginExamination.MaskPixels",
    {"pixels": [[1, 2], [3, 4], [5, 6]]},
)
NOTED = Finding("counts", "detector", Action.NOTED, "The patterns hold counts.", "They are read so.")
REFUSED = Finding("one-place", "geometry", Action.REFUSED, "All positions are one.", "Give them in pixels.")
POOR = Finding("misfit", "result", Action.IGNORED, "The error is large.", "Check the scan.")


def test_a_line_says_what_was_done_what_was_seen_and_who_decides_otherwise() -> None:
    assert (Report((MASKED, NOTED))).lines() == [
        "Mended: 3 pixels count nothing. They are masked. "
        "(PtychoPINNPluginExamination.MaskPixels decides otherwise.)",
        "Noted: The patterns hold counts. They are read so.",
    ]
    assert len(Report((MASKED, NOTED)).lines(warnings_only=True)) == 1


def test_each_finding_is_there_once() -> None:
    assert (Report((MASKED, NOTED)) + Report((NOTED, POOR))).findings == (MASKED, NOTED, POOR)


def test_what_is_refused_is_an_error_that_has_all_findings() -> None:
    Report((MASKED, NOTED, POOR)).require_accepted()
    report = Report((MASKED, REFUSED))
    with pytest.raises(ExaminationError, match=r"All positions are one\. Give them in pixels\.") as caught:
        report.require_accepted()
    assert caught.value.report == report


def test_only_a_warning_about_the_result_makes_it_doubtful() -> None:
    assert not Report((MASKED, NOTED, REFUSED)).is_doubtful
    assert Report((NOTED, POOR)).is_doubtful


def test_a_file_gives_back_the_report(tmp_path: Path) -> None:
    path = tmp_path / "examination.json"
    Report((MASKED, REFUSED)).save(path)
    assert Report.load(path) == Report((MASKED, REFUSED))
    assert json.loads(path.read_text())["findings"][0]["action"] == "mended"


def test_an_unknown_subject_is_refused() -> None:
    with pytest.raises(ValueError, match="subject"):
        Finding("x", "weather", Action.NOTED, "", "")


def test_findings_stay_with_the_scan(tmp_path: Path) -> None:
    raw = RawData(
        xcoords=np.linspace(40.0, 60.0, 4),
        ycoords=np.linspace(40.0, 55.0, 4),
        diff3d=np.ones((4, 64, 64), np.uint16),
        probeGuess=np.ones((64, 64), complex),
    )
    raw.findings = Report((MASKED,))
    raw.to_directory(tmp_path)
    assert RawData.from_directory(tmp_path).findings == raw.findings
    assert raw.select(slice(2)).findings == raw.findings
