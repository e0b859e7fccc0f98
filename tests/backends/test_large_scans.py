"""What engines make of a scan that is in files is what they make of one in memory, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from engine_support import QUICK, Bench, without_graphs
from large_support import in_files

from ptychopinn_ptychodus.data.large_arrays import LargeArray


def test_training_inference_and_stitching(bench: Bench, tmp_path: Path) -> None:
    with without_graphs(bench.engine):
        data = bench.groups(2)
        expected = bench.train(gridsize=2, data=data, validation=bench.groups(2, 5), nepochs=2)
        arrays, patches = bench.arrays(), bench.engine.predict(bench.model_path, data, QUICK)
        with in_files(tmp_path / "large"):
            large = bench.scan.select(np.arange(len(bench.scan)))
            assert isinstance(large.diff3d, LargeArray)
            again = replace(bench, scan=large, directory=tmp_path / "again")
            again.directory.mkdir()
            data = again.groups(2)
            found = again.train(gridsize=2, data=data, validation=again.groups(2, 5), nepochs=2)
            assert found.history == expected.history
            for name, values in again.arrays().items():
                np.testing.assert_array_equal(values, arrays[name], err_msg=name)
            prediction = again.engine.predict(again.model_path, data, QUICK)
            assert isinstance(prediction.patches, LargeArray)
            np.testing.assert_array_equal(prediction.patches, patches.patches)
            stitched = prediction.stitch(data).object
        np.testing.assert_array_equal(stitched, patches.stitch(data).object)
    assert list((tmp_path / "large").iterdir()) == []
