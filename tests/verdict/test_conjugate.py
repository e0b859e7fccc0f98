"""That the conjugate of a probe was taken is told, whatever the verdict on its object is."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from verdict_support import Result, judged, with_fields

from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.examination import Action, ExaminationConfig, Report
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.verdict import conjugate_taken
from ptychopinn_ptychodus.verdict.conjugate import conjugate_of
from ptychopinn_ptychodus.worker import examination


@pytest.fixture(scope="module")
def negated(scan: RawData) -> RawData:
    """Positions whose signs are wrong, both."""
    return with_fields(scan, xcoords=107 - scan.xcoords, ycoords=107 - scan.ycoords)


@pytest.fixture(scope="module")
def conjugated(negated: RawData) -> Result:
    flat = np.ones((108, 108), np.complex64)
    return refine(negated, flat, negated.probeGuess, RefinementConfig(epochs=6), device="cpu", quiet=True)


def test_the_warning_names_both_causes_what_differs_and_what_to_do() -> None:
    finding = conjugate_taken()
    assert (finding.subject, finding.action) == ("result", Action.IGNORED)
    for said in (
        "other side of the focus",
        "signs of both position axes are wrong",
        "TURNED BY 180 DEGREES",
        "PHASE WITH THE OTHER SIGN",
        "opposite defocus",
        "invert x and y",
    ):
        assert said in finding.text


def told(raw: RawData, refined: Result, caplog: pytest.LogCaptureFixture, *, judge: bool) -> Report:
    job: Any = SimpleNamespace(examination=ExaminationConfig(judge=judge), refinement=None, device="cpu")
    found = Estimate(refined.object, refined.probe, refined.positions)
    with caplog.at_level(logging.INFO):
        findings = examination.judged(raw, found, refined, job, lambda _: None, lambda: False)
    return Report.from_json(findings)


@pytest.mark.parametrize("judge", [True, False])
def test_a_result_carries_it_even_if_it_is_not_judged(
    negated: RawData, conjugated: Result, judge: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert conjugated.conjugated
    report = told(negated, conjugated, caplog, judge=judge)
    assert report.is_doubtful
    assert report.findings[0] == conjugate_taken()
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    # what fits is not accused beside
    assert [finding.is_warning for finding in report.findings[1:]] == ([False] if judge else [])


def test_a_sound_result_carries_nothing_of_the_kind(
    scan: RawData, result: Result, caplog: pytest.LogCaptureFixture
) -> None:
    assert not told(scan, result, caplog, judge=True).is_doubtful
    assert told(scan, result, caplog, judge=False).findings == ()


def test_trials_begin_with_the_conjugate_as_well(negated: RawData, conjugated: Result) -> None:
    """As if the error left something to explain: another reading would be named with the given probe."""
    wrong, right = (
        judged(negated, conjugated, error=0.05, conjugated=taken).values["trial"] for taken in (False, True)
    )
    assert wrong["remedy"]
    assert not right["remedy"]


def test_of_the_two_conjugates_it_is_the_one_that_was_found(scan: RawData) -> None:
    given = scan.probeGuess
    turned = np.roll(np.flip(given, (-2, -1)), 1, (-2, -1))
    for found in (given, turned):
        assert np.array_equal(conjugate_of(given, np.conj(found)), np.conj(found))
