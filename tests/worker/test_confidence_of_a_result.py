"""What the worker leaves of a confidence, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptychopinn_ptychodus.config import ExecutionConfig
from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.examination import ExaminationConfig
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.worker.confidence import with_confidence
from ptychopinn_ptychodus.worker.job import RefineJob


@pytest.fixture(scope="module")
def scan() -> RawData:
    x, y = raster_positions(5, 5, 6.0, jitter=0.3, origin=34.0, seed=1)
    return simulate_scan(make_object((96, 96), seed=2), make_probe(64), x, y, photons=1e5, seed=3)


def found(
    scan: RawData, directory: Path, *, stop: bool = False, object_: Any = None, confidence: bool = True
) -> list[dict[str, Any]]:
    execution = ExecutionConfig(accelerator="cpu")
    job = RefineJob(RefinementConfig(), execution, 20, ExaminationConfig(confidence=confidence))
    assert scan.objectGuess is not None
    result = Estimate(scan.objectGuess if object_ is None else object_, scan.probeGuess)
    return with_confidence(scan, result, None, job, directory, lambda _: None, lambda: stop)


def left(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*confidence*")}


def test_it_leaves_arrays_and_a_picture_and_says_so(scan: RawData, tmp_path: Path) -> None:
    (finding,) = found(scan, tmp_path)
    assert (finding["code"], finding["subject"]) == ("confidence", "confidence")
    assert left(tmp_path) == {"confidence.npz", "confidence.png"}


@pytest.mark.parametrize("why", ["switched off", "stopped"])
def test_where_there_is_none_nothing_is_left(why: str, scan: RawData, tmp_path: Path) -> None:
    options = {"confidence": False} if why == "switched off" else {"stop": True}
    assert found(scan, tmp_path, **options) == []
    assert left(tmp_path) == set()


def test_what_cannot_be_found_out_is_a_warning(scan: RawData, tmp_path: Path) -> None:
    """The result is there, and must not be lost to it."""
    (dark,) = found(scan, tmp_path, object_=np.zeros((96, 96), np.complex64))
    (few,) = found(scan.select(slice(5)), tmp_path)
    for finding, said in ((dark, "puts no light"), (few, "has 5 patterns")):
        assert (finding["code"], finding["action"]) == ("no-confidence", "ignored")
        assert said in finding["seen"]
        assert finding["setting"] == "PtychoPINNPluginExamination.Confidence"
    assert left(tmp_path) == set()
