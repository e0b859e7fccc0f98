"""Patterns that are not square, in stock Ptychodus: refused, or cropped and padded as the setting says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cropping_support import at_pixels
from ptychodus.api.assemble import AssembledDiffractionData
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import load_product
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence

from ptychopinn_ptychodus.data.confidence import Confidence
from ptychopinn_ptychodus.data.examination import ExaminationConfig
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.ptychodus_io.ingest import read_training_directory
from ptychopinn_ptychodus.ptychodus_io.standard_scan import in_ptychodus, write_standard_directory

ROWS, COLUMNS, N = 64, 48, 56
"""Rows are cropped and columns are padded."""


def _directory(directory: Path, shape: tuple[int, int], patterns: np.ndarray, bad: np.ndarray) -> Path:
    """A scan of patterns of ``shape``, with probe and object on the pixels that belong to them."""
    x, y = raster_positions(6, 6, 5.0, jitter=0.3, origin=34.0, seed=1)
    truth = make_object((96, 96), seed=2)
    raw = simulate_scan(truth, make_probe(64), x, y, photons=1e6, seed=3)
    data, product = in_ptychodus(raw, np.ones((96, 96)), photons=1e6, name="scan", center_m=(1e-6, -2e-6))
    whole = product.object_.get_pixel_geometry()
    pixel = PixelGeometry(width_m=whole.width_m * 64 / shape[1], height_m=whole.height_m * 64 / shape[0])
    extent = [int(np.ceil(96 * count / 64)) for count in shape]
    # what was never recorded is in neither probe
    probe = at_pixels(at_pixels(np.asarray(product.probes.get_array()), (ROWS, COLUMNS)), shape)
    directory.mkdir()
    write_standard_directory(
        directory,
        AssembledDiffractionData(data.get_indexes(), patterns, data.get_pixel_geometry(), bad),
        replace(
            product,
            probes=ProbeSequence(probe, None, pixel),
            object_=Object(np.ones((1, *extent), np.complex64), pixel, ObjectCenter(1e-6, -2e-6)),
        ),
    )
    return directory


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    """A scan whose patterns are not square, and the same with patterns cropped and padded by hand."""
    x, y = raster_positions(6, 6, 5.0, jitter=0.3, origin=34.0, seed=1)
    raw = simulate_scan(make_object((96, 96), seed=2), make_probe(64), x, y, photons=1e6, seed=3)
    counts = np.rint(np.square(raw.diff3d, dtype=np.float64)).astype(np.uint16)[:, :, 8:56]
    bad = np.zeros((ROWS, COLUMNS), np.bool_)
    bad[30, 20] = True
    by_hand = np.pad(counts[:, 4:60], ((0, 0), (0, 0), (4, 4)))
    unmeasured = np.pad(bad[4:60], ((0, 0), (4, 4)), constant_values=True)
    return (
        _directory(tmp_path / "in", (ROWS, COLUMNS), counts, bad),
        _directory(tmp_path / "hand", (N, N), by_hand, unmeasured),
    )


def reconstruct(source: Path, target: Path, size: int) -> subprocess.CompletedProcess[str]:
    settings: dict[str, dict[str, object]] = {
        "Processing": {"Algorithm": "ptychopinn-plugin_refinement"},
        "PtychoPINNPluginData": {"PatternSize": size},
        "PtychoPINNPluginWithoutModel": {"Epochs": 2, "Start": "flat"},
        "PtychoPINNPluginTraining": {"ProbeModes": 1},
        "PtychoPINNPluginExamination": {"Judge": False},
    }
    lines = [
        line
        for group, values in settings.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in values.items()))
    ]
    (source / "settings.ini").write_text("\n".join(lines) + "\n")
    target.mkdir()
    command = [sys.executable, "-m", "ptychodus", "-b", "reconstruct", "-i", str(source), "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_result_is_that_of_patterns_cropped_by_hand(
    directories: tuple[Path, Path], tmp_path: Path
) -> None:
    source, hand = directories
    done = reconstruct(source, tmp_path / "out", N)
    assert done.returncode == 0, done.stderr
    said = "stored with 64 × 48 pixels (rows × columns). They are cropped and padded to 56 × 56"
    assert said in done.stderr + done.stdout
    other = reconstruct(hand, tmp_path / "other", N)
    assert other.returncode == 0, other.stderr
    found, expected = (load_product(tmp_path / name / "product.000100.h5") for name in ("out", "other"))
    assert said in found.metadata.comments
    assert "stored with" not in expected.metadata.comments
    mine, theirs = found.object_.get_geometry(), expected.object_.get_geometry()
    assert (mine.width_px, mine.height_px) == (theirs.width_px, theirs.height_px) == (84, 84)
    assert mine.pixel_width_m == pytest.approx(theirs.pixel_width_m, rel=1e-12)
    assert mine.pixel_height_m == pytest.approx(theirs.pixel_height_m, rel=1e-12)
    assert (mine.center_x_m, mine.center_y_m) == (theirs.center_x_m, theirs.center_y_m)
    # to what the two ways to the probe differ by in single precision
    np.testing.assert_allclose(found.object_.get_array(), expected.object_.get_array(), atol=1e-4)
    assert float(np.ptp(np.angle(found.object_.get_array()))) > 0.3  # there is something to see
    assert found.losses[-1].value == pytest.approx(expected.losses[-1].value, rel=1e-4)
    # and what Ptychodus has no place for lies beside the product
    confidence = Confidence.load(tmp_path / "out" / "confidence.npz")
    assert confidence.spread.shape == (84, 84)
    assert (tmp_path / "out" / "confidence.png").read_bytes().startswith(b"\x89PNG")
    assert "the mean confidence is" in found.metadata.comments


def test_without_the_setting_it_is_refused_with_what_to_set(
    directories: tuple[Path, Path], tmp_path: Path
) -> None:
    done = reconstruct(directories[0], tmp_path / "out", 0)
    assert done.returncode == 1
    assert "64 × 48 pixels" in done.stderr + done.stdout
    assert "PtychoPINNPluginData.PatternSize" in done.stderr + done.stdout
    assert list((tmp_path / "out").iterdir()) == []


def test_a_training_directory_is_read_so_too(directories: tuple[Path, Path]) -> None:
    source, hand = directories
    config = ExaminationConfig(pattern_size=N)
    found = read_training_directory(source, config).train
    expected = read_training_directory(hand, config).train
    np.testing.assert_array_equal(found.diff3d, expected.diff3d)
    np.testing.assert_array_equal(found.bad_pixels, expected.bad_pixels)
    np.testing.assert_allclose(found.xcoords, expected.xcoords, rtol=1e-9)
    np.testing.assert_allclose(found.probeGuess, expected.probeGuess, atol=1e-3)
    with pytest.raises(ValueError, match=r"64 × 48.*PatternSize"):
        read_training_directory(source)
