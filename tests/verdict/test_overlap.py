"""Whether patterns overlap far enough to determine the object between them."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.data.examination import Report
from ptychopinn_ptychodus.data.overlapping import shared_light
from ptychopinn_ptychodus.data.probe import probe_width
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_probe, raster_positions
from ptychopinn_ptychodus.verdict import little_overlap


def scan(step: float) -> RawData:
    """A grid whose step is given in widths of the probe."""
    probe = make_probe(32)
    x, y = raster_positions(6, 6, step * probe_width(probe), jitter=0.1, origin=30.0, seed=1)
    return RawData(xcoords=x, ycoords=y, diff3d=np.ones((36, 32, 32), np.float32), probeGuess=probe)


def shared(raw: RawData) -> float:
    return shared_light(raw.probeGuess, raw.xcoords, raw.ycoords)


def test_shared_light_is_what_falls_where_others_were_taken() -> None:
    disk = (np.hypot(*np.mgrid[-15.5:16, -15.5:16]) <= 8)[None]
    assert shared_light(disk, [0, 17, 34], [0, 0, 0]) == 0
    assert shared_light(disk, [0, 8, 16], [0, 0, 0]) == pytest.approx(0.391, abs=0.03)  # ends, by lenses
    # one place counts once, however often it was recorded
    assert shared_light(disk, [0, 0, 0, 17, 17], [0, 0, 0.2, 0, 0]) == 0
    assert shared_light(disk, [5.0], [5.0]) == 0


def test_scans_that_overlap_pass_without_a_word_and_others_are_told_of() -> None:
    parts = [shared(scan(step)) for step in (0.25, 0.5, 0.75, 1.0, 1.25)]
    assert parts == sorted(parts, reverse=True)
    assert little_overlap(scan(0.5), of_single_frames=True) is None
    single, other = (little_overlap(scan(1.25), of_single_frames=which) for which in (True, False))
    assert single is not None
    assert other is not None
    assert single.code == other.code == "little-overlap"
    assert single.is_warning
    assert f"{shared(scan(1.25)):.0%}" in single.seen
    assert "pretrained for single frames" in other.done
    assert "pretrained for single frames" not in single.done
    assert not Report((single,)).is_doubtful  # of the result the verdict tells
