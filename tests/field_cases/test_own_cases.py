"""More scans with one thing wrong, of the same kinds as the shared ones: other shapes, types and sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from field_scans import N, Scan
from field_support import Outcome, examined, reconstruct_with, train_and_reconstruct
from numpy.typing import NDArray

from ptychopinn_ptychodus.data.examination import ExaminationError

MARGIN = 40


def cross() -> NDArray[np.bool_]:
    """The gaps between four modules of a detector."""
    gaps = np.zeros((N, N), bool)
    gaps[22:25] = True
    gaps[:, 41:43] = True
    return gaps


def as_the_sound_one(outcome: Outcome, sound: Outcome, scan: Scan, amplitude: float = 0.03) -> None:
    assert outcome.correlation(scan.truth, MARGIN) > 0.99
    assert outcome.amplitude() == pytest.approx(sound.amplitude(), rel=amplitude)
    assert not outcome.result.is_doubtful, outcome.result.lines()


def test_the_sound_scan_is_right_and_nothing_is_said(sound: Outcome, scan: Scan) -> None:
    assert sound.correlation(scan.truth, MARGIN) > 0.99
    assert (sound.training + sound.result).lines(warnings_only=True) == []


def test_a_mask_of_another_shape_that_is_inverted_is_refused(scan: Scan, tmp_path: Path) -> None:
    data = scan.but(bad=~cross()).write(tmp_path / "scan")
    with pytest.raises(ExaminationError, match="inverted"):
        train_and_reconstruct(data, data, tmp_path / "model")


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.int32, -1), (np.int16, np.iinfo(np.int16).min), (np.float32, np.nan)]
)
def test_a_sentinel_in_the_gaps_is_masked(
    dtype: type, value: float, scan: Scan, sound: Outcome, tmp_path: Path
) -> None:
    patterns = np.minimum(scan.patterns, np.iinfo(np.int16).max).astype(dtype)
    patterns[:, cross()] = value
    data = scan.but(patterns=patterns).write(tmp_path / "scan")
    assert np.array_equal(examined(data).bad_pixels, cross())
    assert sound.model is not None
    outcome = reconstruct_with(sound.model, data)
    as_the_sound_one(outcome, sound, scan)
    assert any("Mended" in line for line in outcome.result.lines())


def test_a_beamstop_that_hides_most_photons_leaves_the_amplitude(
    scan: Scan, sound: Outcome, tmp_path: Path
) -> None:
    rows, columns = np.mgrid[:N, :N] - N // 2
    radius = np.hypot(rows, columns)
    mean = scan.patterns.mean(0)
    hides = min(size for size in range(1, N // 2) if mean[radius <= size].sum() > 0.88 * mean.sum())
    stop = radius <= hides
    data = scan.but(patterns=np.where(stop, 0, scan.patterns), bad=stop).write(tmp_path / "scan")
    outcome = train_and_reconstruct(data, data, tmp_path / "model")
    assert outcome.amplitude() == pytest.approx(sound.amplitude(), rel=0.1)
    assert outcome.photons == pytest.approx(sound.photons, rel=0.2)


@pytest.mark.parametrize(
    ("name", "settings"), [("PINN", {}), ("PINN", {"Model_Backend": "tensorflow"}), ("Supervised", {})]
)
def test_a_scan_four_times_as_bright_has_the_same_object(
    name: str, settings: dict[str, str], scan: Scan, tmp_path: Path
) -> None:
    """A quarter of the photons is left to train on, and noise stays Poisson's; all of them are applied."""
    rng = np.random.default_rng(5)
    dim = scan.but(patterns=rng.binomial(scan.patterns, 0.25).astype(np.uint16)).write(tmp_path / "dim")
    bright = scan.write(tmp_path / "bright")
    if name == "Supervised":
        scan.with_known_object(dim)
    there = train_and_reconstruct(dim, dim, tmp_path / "model", name, **settings)
    assert there.model is not None
    here = reconstruct_with(there.model, bright, name, **settings)
    assert here.amplitude() == pytest.approx(there.amplitude(), rel=0.04)
    assert here.photons == pytest.approx(4 * there.photons, rel=0.08)
    network, before = (
        np.abs(o.products[0].object_.get_array()[0][60:-60, 60:-60]).mean() for o in (here, there)
    )
    assert network == pytest.approx(before, rel=0.06)


def test_a_beam_that_the_product_says_drifts_gives_the_same_object(
    scan: Scan, sound: Outcome, tmp_path: Path
) -> None:
    """The product's photon counts are honoured: a beam that loses half its photons over the scan."""
    drift = np.linspace(1.0, 0.5, len(scan.x))
    rng = np.random.default_rng(6)
    dimmed = rng.binomial(scan.patterns, drift[:, None, None]).astype(np.uint16)
    data = scan.but(patterns=dimmed, counts=drift * 1e6).write(tmp_path / "scan")
    outcome = train_and_reconstruct(data, data, tmp_path / "model")
    as_the_sound_one(outcome, sound, scan)
    amplitude = np.abs(outcome.object)
    left, right = amplitude[30:60, 60:-60].mean(), amplitude[-60:-30, 60:-60].mean()
    reference = np.abs(sound.object)
    assert left / right == pytest.approx(
        reference[30:60, 60:-60].mean() / reference[-60:-30, 60:-60].mean(), rel=0.03
    )


def test_mirrored_patterns_end_in_a_warning_that_names_the_remedy(
    scan: Scan, sound: Outcome, tmp_path: Path
) -> None:
    data = scan.but(patterns=scan.patterns[:, ::-1].copy()).write(tmp_path / "scan")
    assert sound.model is not None
    outcome = reconstruct_with(sound.model, data)
    assert outcome.result.is_doubtful
    # the verdict comes last; a wrong reading of the patterns had positions searched for
    searched, verdict = (finding for finding in outcome.result.findings if finding.subject == "result")
    assert searched.code == "positions-searched"
    assert "times better" in verdict.text
    assert verdict.text in outcome.products[-1].metadata.comments
