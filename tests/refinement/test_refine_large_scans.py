"""A scan that is in files is refined as one in memory, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from large_support import in_files
from refinement_support import made_scan

from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.large_arrays import LargeArray
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.chosen_start import Start, better_start
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.verdict import judge


def test_refinement_and_verdict(tmp_path: Path) -> None:
    scan, config = made_scan(1e5, seed=3), RefinementConfig(epochs=4)
    assert scan.objectGuess is not None
    start = Start(np.ones_like(scan.objectGuess), scan.probeGuess)

    def results(raw: RawData) -> list[object]:
        begin = better_start(raw, start, config, device="cpu", should_stop=lambda: False)
        found = refine(raw, begin.object, begin.probe, config, device="cpu")
        made = Estimate(found.object, found.probe, found.positions)
        verdict = judge(
            raw, made.object, made.probe, made.positions, metric=found.metric, error=found.error, device="cpu"
        )
        return [found.object, found.probe, found.positions, found.history, found.weights, verdict.seen]

    expected = results(scan)
    with in_files(tmp_path / "large"):
        large = scan.select(np.arange(len(scan)))
        assert isinstance(large.diff3d, LargeArray)
        for one, other in zip(results(large), expected, strict=True):
            np.testing.assert_array_equal(one, other)
