"""What a refinement and a map of confidence take of the memory where an object is large and patterns are few.

Canvases are what grows with a scan: all else is a batch at a time. Limits are in sizes of the object.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from large_support import in_files

from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.metrics import fourier_ring_correlation
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.verdict.confidence import confidence_in
from ptychopinn_ptychodus.worker.confidence_picture import picture

EDGE = 1200


@pytest.fixture(scope="module")
def scan() -> RawData:
    """16 patterns of 64 × 64 far apart, all over the object."""
    x, y = raster_positions(4, 4, (EDGE - 96) / 3, origin=48.0)
    rows, columns = np.indices((EDGE, EDGE), np.float32)
    object_ = np.exp(0.2j * np.sin(rows / 9) * np.cos(columns / 7)).astype(np.complex64)
    return simulate_scan(object_, make_probe(64), x, y, photons=1e6, seed=1)


@contextmanager
def peak(object_: np.ndarray) -> Iterator[list[float]]:
    """Of the memory beyond what was there, in sizes of the object; in the list, once it is left."""
    found: list[float] = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1] / object_.nbytes)
    finally:
        tracemalloc.stop()


def test_a_map_of_confidence_lets_go_of_one_half_before_the_other(scan: RawData, tmp_path: Path) -> None:
    assert scan.objectGuess is not None
    with in_files(tmp_path / "large"):
        with peak(scan.objectGuess) as of_map:
            confidence = confidence_in(scan, Estimate(scan.objectGuess, scan.probeGuess), device="cpu")
        assert confidence is not None
        with peak(scan.objectGuess) as of_picture:
            picture(confidence)
    assert of_map[0] < 9.0
    assert of_picture[0] < 10.0


def test_rings_hold_little_beside_two_spectra() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, EDGE // 2, EDGE)).astype(np.float32).view(np.complex64)
    with peak(one) as of_rings:
        rings = fourier_ring_correlation(one, other, align_first=False)
    assert np.abs(rings.correlation[10:]).max() < 0.2
    assert of_rings[0] < 4.5


def test_a_refinement_keeps_no_canvas_that_it_does_not_come_back_to(scan: RawData) -> None:
    assert scan.objectGuess is not None
    start = np.ones_like(scan.objectGuess)
    with peak(start) as of_refinement:
        refine(
            scan,
            start,
            scan.probeGuess,
            RefinementConfig(epochs=1, metric="amplitude"),
            device="cpu",
            stages=Stages.VARIATION,
        )
    assert of_refinement[0] < 12.0
