"""How far a result is to be believed, where it is known how far that is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from refinement_support import made_scan
from scipy import ndimage
from skimage.draw import line

from ptychopinn_ptychodus.data.confidence import Confidence
from ptychopinn_ptychodus.data.estimate import Estimate
from ptychopinn_ptychodus.data.examination import Action
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.verdict.confidence import confidence_finding, confidence_in
from ptychopinn_ptychodus.verdict.halves import halves_of

SHAPE = (112, 112)


def scan_of(object_: np.ndarray, photons: float = 1e6) -> RawData:
    """81 patterns of 64 × 64."""
    x, y = raster_positions(9, 9, 5.0, jitter=0.3, origin=34.0, seed=1)
    return simulate_scan(object_, make_probe(64), x, y, photons=photons, seed=3)


def of(raw: RawData, object_: np.ndarray) -> Confidence:
    found = confidence_in(raw, Estimate(object_.astype(np.complex64), raw.probeGuess), device="cpu")
    assert found is not None
    return found


def invented() -> np.ndarray:
    """Where a network that has learnt lines would draw some, well inside of the scan."""
    drawn = np.zeros(SHAPE, bool)
    for ends in ((42, 44, 66, 70), (70, 45, 48, 66), (55, 40, 58, 72)):
        rows, columns = line(*ends)  # type: ignore[no-untyped-call]
        for step in (0, 1):
            drawn[rows + step, columns] = True
    return drawn


@pytest.mark.parametrize("kind", ["blank", "blobs"])
def test_what_was_invented_is_doubtful_exactly_there(kind: str) -> None:
    truth = np.ones(SHAPE, np.complex64) if kind == "blank" else make_object(SHAPE, "blobs", seed=2)
    drawn = invented()
    found = of(scan_of(truth), np.where(drawn, 0.5 * truth, truth))
    inside = np.zeros(SHAPE, bool)
    inside[40:-40, 40:-40] = True
    near = ndimage.binary_dilation(drawn, iterations=5)  # as far as the map averages
    on_lines, elsewhere = found.map[drawn & inside], found.map[~near & inside]
    assert np.quantile(on_lines, 0.9) < 0.5
    assert np.quantile(elsewhere, 0.2) > 0.5
    assert np.median(elsewhere) > 0.95
    # half of the amplitude is gone, on lines narrower than what is averaged over
    assert np.median(found.expected_error[drawn & inside]) == pytest.approx(0.3, abs=0.15)


@pytest.fixture(scope="module")
def noisy() -> tuple[RawData, Confidence]:
    """A scan of few photons, with the truth as its result."""
    raw = made_scan(photons=1e4, seed=4)
    assert raw.objectGuess is not None
    return raw, of(raw, raw.objectGuess)


def test_the_expected_error_and_the_resolution_go_with_the_dose(noisy: tuple[RawData, Confidence]) -> None:
    raw, dim = noisy
    bright_raw = made_scan(photons=1e6, seed=4)
    assert bright_raw.objectGuess is not None
    bright = of(bright_raw, bright_raw.objectGuess)
    assert np.nanmedian(dim.expected_error) > 3 * np.nanmedian(bright.expected_error)
    assert dim.mean < bright.mean
    assert bright.mean > 0.9
    assert bright.doubtful < 0.1
    coarse = dim.half_period()
    assert coarse is not None
    assert coarse > (bright.half_period() or 1.0)
    assert dim.expected_error.shape == raw.objectGuess.shape  # type: ignore[union-attr]


def test_what_only_one_half_has_seen_is_doubtful() -> None:
    """Patterns that do not overlap: no half can confirm what the other one has seen."""
    x, y = raster_positions(4, 4, 40.0, jitter=0.0, origin=36.0)
    shape = (192, 192)
    raw = simulate_scan(make_object(shape, seed=1), make_probe(64, diameter=0.3), x, y, photons=1e6, seed=2)
    assert raw.objectGuess is not None
    found = of(raw, raw.objectGuess)
    assert found.doubtful > 0.5
    assert confidence_finding(found).is_warning


def test_patterns_in_a_file_give_the_same_map(noisy: tuple[RawData, Confidence], tmp_path: Path) -> None:
    raw, found = noisy
    np.save(tmp_path / "patterns.npy", raw.diff3d)
    mapped = raw.select(slice(None))
    mapped.diff3d = np.load(tmp_path / "patterns.npy", mmap_mode="r")
    assert raw.objectGuess is not None
    np.testing.assert_array_equal(of(mapped, raw.objectGuess).expected_error, found.expected_error)


def test_progress_grows_and_stop_is_heard(noisy: tuple[RawData, Confidence]) -> None:
    raw, _ = noisy
    assert raw.objectGuess is not None
    told: list[float] = []
    estimate = Estimate(raw.objectGuess, raw.probeGuess)
    stopped = confidence_in(
        raw, estimate, device="cpu", on_progress=told.append, should_stop=lambda: len(told) >= 5
    )
    assert stopped is None
    assert len(told) == 5
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] < 0.5


def test_a_scan_that_cannot_be_halved_is_refused(noisy: tuple[RawData, Confidence]) -> None:
    raw, _ = noisy
    assert raw.objectGuess is not None
    few = raw.select(slice(7))
    with pytest.raises(ValueError, match=r"has 7 patterns: 8 or more can be halved"):
        confidence_in(few, Estimate(raw.objectGuess, raw.probeGuess), device="cpu")


def test_halves_are_spread_evenly_in_both_directions() -> None:
    x, y = raster_positions(16, 16, 5.0, jitter=0.2, seed=3)
    halves = halves_of(np.stack((x, y), -1))
    assert [len(half) for half in halves] == [128, 128]
    np.testing.assert_array_equal(np.sort(np.concatenate(halves)), np.arange(256))
    for half in halves:
        for lines in (half // 16, half % 16):  # rows, and columns
            assert np.bincount(lines, minlength=16).min() >= 5


def test_the_finding_says_it_in_a_sentence(noisy: tuple[RawData, Confidence]) -> None:
    _, found = noisy
    said = confidence_finding(replace(found, contrast=10.0), 5e-9)
    half = found.half_period()
    assert half is not None
    assert said.action is Action.NOTED
    assert said.subject == "confidence"
    assert f"half period of {half:.3g} pixels, {5 * half:.3g} nm" in said.seen
    assert "the mean confidence is 1.00, and 0% of the lit object is doubtful." in said.seen
    assert said.values["half_period_nm"] == pytest.approx(5 * half)
    doubted = confidence_finding(replace(found, contrast=1e-4))
    assert doubted.action is Action.IGNORED
    assert "100% of the lit object is doubtful." in doubted.seen
    assert " nm" not in doubted.text
