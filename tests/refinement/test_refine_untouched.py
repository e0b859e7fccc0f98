"""What a refinement leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from refinement_support import QUICK, as_found, true_positions

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine


def test_grid_unlit_object_and_inputs_stay(scan: RawData) -> None:
    wide = np.full((300, 280), 0.8 + 0.1j)
    probe = scan.probeGuess.copy()
    patterns = scan.diff3d.copy()
    result = refine(scan, wide, probe, QUICK, device="cpu")
    assert result.object.shape == wide.shape
    lit = np.zeros(wide.shape, bool)
    for x, y in zip(scan.xcoords, scan.ycoords, strict=True):
        lit[max(int(y) - 36, 0) : int(y) + 37, max(int(x) - 36, 0) : int(x) + 37] = True
    np.testing.assert_array_equal(result.object[~lit], wide[~lit].astype(np.complex64))
    assert np.abs(result.object[lit] - wide[0, 0]).max() > 0.05
    np.testing.assert_array_equal(probe, scan.probeGuess)
    np.testing.assert_array_equal(patterns, scan.diff3d)
    assert (wide == 0.8 + 0.1j).all()


def test_patches_may_reach_beyond_the_object(scan: RawData) -> None:
    assert scan.objectGuess is not None
    narrow = np.ones((64, 62), complex)
    part = scan.select(np.flatnonzero((scan.xcoords < 61) & (scan.ycoords < 63)))
    result = refine(part, narrow, scan.probeGuess, RefinementConfig(epochs=8), device="cpu")
    assert result.object.shape == narrow.shape
    assert result.error < 0.3 * result.start_error
    # what it says of its object is true of the object that it hands over
    found = as_found(part, result)
    again = refine(found, result.object, result.probe, RefinementConfig(epochs=0), device="cpu")
    assert again.error == pytest.approx(result.error, rel=0.02)


def test_bad_pixels_do_not_matter(scan: RawData, flat: np.ndarray) -> None:
    bad = np.zeros((scan.N, scan.N), bool)
    bad[30:34, 28:40] = True
    masked = RawData(
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        diff3d=scan.diff3d,
        probeGuess=scan.probeGuess,
        bad_pixels=bad,
        domain="amplitude",
    )
    hot = masked.select(slice(None))
    hot.diff3d = masked.diff3d.copy()
    hot.diff3d[:, bad] = 5e3
    one, two = (refine(raw, flat, scan.probeGuess, QUICK, device="cpu") for raw in (masked, hot))
    np.testing.assert_array_equal(one.object, two.object)
    np.testing.assert_array_equal(one.probe, two.probe)


def test_a_mapped_scan_will_do(scan: RawData, flat: np.ndarray, tmp_path: Path) -> None:
    scan.to_directory(tmp_path)
    mapped = refine(RawData.from_directory(tmp_path), flat, scan.probeGuess, QUICK, device="cpu")
    np.testing.assert_array_equal(
        mapped.object, refine(scan, flat, scan.probeGuess, QUICK, device="cpu").object
    )


@pytest.mark.parametrize("start", ["flat", "truth"])
def test_positions_that_did_not_move_are_those_of_the_scan_to_the_bit(
    scan: RawData, flat: np.ndarray, start: str
) -> None:
    assert scan.objectGuess is not None
    # two epochs leave positions alone; from the truth, steps far too long are taken back
    config, object_ = (
        (QUICK, flat)
        if start == "flat"
        else (RefinementConfig(epochs=4, object_step=2.0, momentum=0.99, batch_size=8), scan.objectGuess)
    )
    result = refine(scan, object_, scan.probeGuess, config, device="cpu")
    assert (result.error == result.start_error) == (start == "truth")
    np.testing.assert_array_equal(result.positions, true_positions(scan))
