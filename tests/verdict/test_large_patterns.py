"""What the verdict's trials read of patterns that are in a file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from large_support import in_files

from ptychopinn_ptychodus.data.large_arrays import LargeArray
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_probe, raster_positions
from ptychopinn_ptychodus.refinement.arrays import arrays_for
from ptychopinn_ptychodus.verdict.trial import TrialRunner


def test_the_part_of_a_trial_is_chosen_by_looking_at_one_pattern_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 150 patterns, which is few enough for each of them to be looked at."""
    size, count = 128, 150
    x, y = raster_positions(15, 10, 9.0, origin=80.0, seed=1)
    amplitude = np.random.default_rng(2).random((count, size, size), np.float32)
    amplitude[:, 32:96, 32:96] += 4
    with in_files(tmp_path / "large"):
        raw = RawData(
            xcoords=x, ycoords=y, diff3d=amplitude, probeGuess=make_probe(size), domain="amplitude"
        ).select(np.arange(count))
        assert isinstance(raw.diff3d, LargeArray)
        looked_at: list[int] = []
        look = LargeArray.part

        def part(array: LargeArray, index: Any) -> Any:
            found = look(array, index)
            looked_at.append(np.asarray(found).nbytes)
            return found

        monkeypatch.setattr(LargeArray, "part", part)
        tracemalloc.start()
        try:
            weights, arrays = np.ones(count), arrays_for("cpu")
            runner = TrialRunner(raw, raw.probeGuess, "amplitude", 1.0, weights, arrays, None)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    pattern = raw.diff3d[0].nbytes
    assert max(looked_at) == pattern
    assert peak < 20 * pattern
    assert runner.part(np.arange(3)).N == 64  # the middle has the light
