"""A confidence as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptychopinn_ptychodus.data.confidence import Confidence
from ptychopinn_ptychodus.data.metrics import RingCorrelation


@pytest.fixture
def found() -> Confidence:
    spread = np.array([[0.01, 0.3], [0.0, np.nan]], np.float32)
    departure = np.array([[0.0, 0.0], [0.1, np.nan]], np.float32)
    rings = RingCorrelation(np.array([0.1, 0.2]), np.array([0.9, 0.1]), np.array([0.5, 0.4]), 0.2)
    return Confidence(spread, departure, 0.1, rings)


def test_what_is_written_is_read(found: Confidence, tmp_path: Path) -> None:
    found.save(tmp_path / "confidence.npz")
    again = Confidence.load(tmp_path / "confidence.npz")
    np.testing.assert_array_equal(again.spread, found.spread)
    np.testing.assert_array_equal(again.departure, found.departure)
    assert (again.contrast, again.mean, again.doubtful) == (found.contrast, found.mean, found.doubtful)
    assert again.rings is not None
    assert found.rings is not None
    np.testing.assert_array_equal(again.rings.correlation, found.rings.correlation)
    assert again.half_period(2.0) == found.half_period(2.0) == 5.0


def test_rings_may_be_without_a_cutoff_and_may_not_be_there(found: Confidence, tmp_path: Path) -> None:
    assert found.rings is not None
    for rings in (None, replace(found.rings, cutoff=None)):
        replace(found, rings=rings).save(tmp_path / "confidence.npz")
        again = Confidence.load(tmp_path / "confidence.npz")
        assert (again.rings is None) == (rings is None)
        assert again.half_period() is None


@pytest.mark.parametrize("content", [b"", b"none", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "confidence.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"confidence\.npz\" is not a map of confidence"):
        Confidence.load(path)
    np.savez(path.open("wb"), contrast=1.0)
    with pytest.raises(ValueError, match="spread"):
        Confidence.load(path)


def test_a_map_is_the_part_that_is_object(found: Confidence) -> None:
    assert found.map.dtype == np.float32
    np.testing.assert_allclose(found.map, [[1 / 1.01, 0.1], [1 / 17, np.nan]], rtol=1e-5)
    np.testing.assert_allclose(found.expected_error, [[0.01, 0.3], [0.1, np.nan]], rtol=1e-5)
    assert replace(found, contrast=0.0).doubtful == 1.0  # of an object of which nothing is seen
