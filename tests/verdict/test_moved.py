"""That positions were moved far is told, with how far, and with what of it is no matter of the whole scan."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from verdict_support import Result

from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.examination import Action, ExaminationConfig, Report
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.verdict import positions_moved
from ptychopinn_ptychodus.worker import examination


@pytest.fixture
def recorded() -> NDArray[np.float64]:
    return np.random.default_rng(41).uniform(0.0, 100.0, (80, 2))


def test_a_displacement_that_all_share_moves_the_object_alone(recorded: NDArray[np.float64]) -> None:
    assert positions_moved(recorded, recorded) is None
    assert positions_moved(recorded, recorded + np.array([30.0, -7.0])) is None


def test_half_a_pixel_is_what_a_refinement_is_for(recorded: NDArray[np.float64]) -> None:
    shaken = recorded + np.random.default_rng(42).normal(0.0, 0.5, recorded.shape)
    assert positions_moved(recorded, shaken) is None


def test_a_stretch_is_told_and_leaves_nothing_for_each(recorded: NDArray[np.float64]) -> None:
    moved = 0.05 * (recorded - recorded.mean(0))
    finding = positions_moved(recorded, recorded + moved)
    assert finding is not None
    assert finding.is_warning
    assert finding.values["pixels"] == pytest.approx(np.sqrt((moved**2).sum(1).mean()))
    assert finding.values["each"] == pytest.approx(0.0, abs=1e-9)
    assert f"{np.hypot(*moved.T).max():.3g} at most" in finding.seen


def test_what_each_moved_by_itself_is_told_beside_it(recorded: NDArray[np.float64]) -> None:
    shaken = np.random.default_rng(43).normal(0.0, 2.0, recorded.shape)
    finding = positions_moved(recorded, recorded + 0.05 * recorded + shaken)
    assert finding is not None
    # six of the 160 numbers go to the terms
    assert finding.values["each"] == pytest.approx(np.sqrt(8.0), rel=0.15)
    assert finding.values["each"] < finding.values["pixels"]


@pytest.mark.parametrize("judge", [True, False])
def test_a_result_carries_it_without_being_doubtful(scan: RawData, judge: bool) -> None:
    wrong = 1.2 * (scan.xcoords - scan.xcoords.mean()) + scan.xcoords.mean()
    refined: Result = refine(
        scan,
        np.ones((108, 108), np.complex64),
        scan.probeGuess,
        RefinementConfig(epochs=2),
        device="cpu",
        quiet=True,
    )
    refined = replace(refined, positions=np.stack((wrong, scan.ycoords), -1))
    job: Any = SimpleNamespace(examination=ExaminationConfig(judge=judge), refinement=None, device="cpu")
    found = Estimate(refined.object, refined.probe, None)
    report = Report.from_json(examination.judged(scan, found, refined, job, lambda _: None, lambda: False))
    moved = report.by_code("positions-moved")
    assert moved is not None
    assert (moved.subject, moved.action) == ("geometry", Action.IGNORED)
    assert not Report((moved,)).is_doubtful
