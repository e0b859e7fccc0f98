"""Positions that are far off, each in its own way, are found, and right positions are left alone."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from refinement_support import displaced, made_scan, true_positions

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import Array, NumpyArrays
from ptychopinn_ptychodus.refinement.iterate import chequerboard
from ptychopinn_ptychodus.refinement.measured import Measured
from ptychopinn_ptychodus.refinement.position_search import PositionSearch
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.refinement.trials import Watch

CONFIG = RefinementConfig(epochs=6)
BEFORE = Stages.PUPIL | Stages.TERMS


def independent(scan: RawData, size: float) -> np.ndarray:
    """Errors of a size, pixels root mean square, (M, 2) [x, y] of mean 0."""
    wrong = np.random.default_rng(4).normal(size=(len(scan), 2))
    wrong -= wrong.mean(axis=0)
    return np.asarray(wrong * size / np.sqrt((wrong**2).sum(1).mean()))


def distances(found: np.ndarray, scan: RawData) -> np.ndarray:
    """(M,) pixels from the true positions, a shift of all taken off."""
    wrong = found - true_positions(scan)
    return np.asarray(np.hypot(*(wrong - np.median(wrong, axis=0)).T))


def searched(
    scan: RawData,
    *,
    probe: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    watch: Watch | None = None,
    begun: np.ndarray | None = None,
) -> np.ndarray | None:
    """What the search finds under the scan's own probe, which is right and in scale, or under another."""
    flat = np.ones((124, 120), np.complex64)

    def refined(part: RawData, wave: Array) -> Refined:
        free = np.asarray(wave * chequerboard(part.N), np.complex64)
        return refine(part, flat, free, CONFIG, device="cpu", quiet=True, stages=~BEFORE)

    waves = scan.probeGuess if probe is None else probe
    measured = Measured.of(scan, NumpyArrays())
    if sound is not None:
        measured = replace(measured, sound=sound)
    return PositionSearch(measured, flat, CONFIG, Watch() if watch is None else watch, refined).found(
        np.asarray(waves * chequerboard(scan.N), np.complex64).reshape(-1, scan.N, scan.N),
        np.zeros((len(scan), 2)) if begun is None else begun,
    )


def test_positions_that_are_far_off_are_found(
    scan: RawData, flat: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = displaced(scan, independent(scan, 6.0))
    without = refine(wrong, flat, scan.probeGuess, CONFIG, device="cpu", stages=~Stages.SEARCH)
    with caplog.at_level(logging.INFO):
        found = refine(wrong, flat, scan.probeGuess, CONFIG, device="cpu")
    assert "searched for" in caplog.text
    moved = found.positions - true_positions(wrong)
    assert found.searched == pytest.approx(np.sqrt((moved**2).sum(1).mean()))
    assert without.searched == 0
    assert found.error < 0.5 * without.error
    assert found.error < found.start_error
    there = distances(found.positions, scan)
    assert np.median(there) < 2.5
    assert np.mean(there < 3.0) > np.mean(distances(without.positions, scan) < 3.0) + 0.15
    # farther than a position may go by itself
    assert np.abs(found.positions - true_positions(wrong)).max() > CONFIG.position_range


def test_a_scan_whose_noise_is_all_that_is_left_is_not_searched(
    scan: RawData, flat: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("It was searched.")

    monkeypatch.setattr(PositionSearch, "found", refuse)
    refine(scan, flat, scan.probeGuess, RefinementConfig(), device="cpu")


@pytest.mark.parametrize("photons", [1e3, 1e6])
def test_right_positions_are_left_alone(photons: float) -> None:
    assert searched(made_scan(photons=photons, seed=11)) is None


def test_right_positions_under_a_wrong_probe_are_left_alone(scan: RawData) -> None:
    """What is left of the patterns is far from noise, but not for the positions."""
    assert scan.probeGuess is not None
    frequency = np.fft.fftfreq(scan.N)
    focus = np.exp(60j * (frequency[:, None] ** 2 + frequency**2))
    probe = np.fft.ifft2(np.fft.fft2(scan.probeGuess.reshape(-1, scan.N, scan.N)) * focus)
    assert searched(scan, probe=probe) is None


def test_displacements_have_no_affine_part_and_unsound_patterns_stay_nearby(scan: RawData) -> None:
    """An object would take up an affine map; and no comparison tells of patterns that do not count."""
    sound = np.delete(np.arange(len(scan)), [3, 80])
    moved = searched(displaced(scan, independent(scan, 5.0)), sound=sound)
    assert moved is not None
    assert np.sqrt((moved**2).sum(1).mean()) > 3.0
    centred = true_positions(scan) - true_positions(scan).mean(axis=0)
    affine = np.linalg.lstsq(centred, moved, rcond=None)[0]
    assert np.abs(affine).max() < 0.04
    assert np.abs(moved[[3, 80]]).max() < np.abs(moved).max() / 2


def test_it_stops_when_asked(scan: RawData) -> None:
    wrong = displaced(scan, independent(scan, 6.0))
    assert searched(wrong, watch=Watch(should_stop=lambda: True)) is None


def test_it_begins_with_none_where_patterns_fit_better_then(scan: RawData) -> None:
    wrong = displaced(scan, independent(scan, 4.0))
    centred = true_positions(scan) - true_positions(scan).mean(axis=0)
    moved = searched(wrong, begun=0.3 * centred)
    assert moved is not None
    there = distances(true_positions(wrong) + moved, scan)
    assert np.median(there) < 1.5


def test_few_patterns_are_not_searched(scan: RawData) -> None:
    few = np.arange(10)
    assert searched(displaced(scan, independent(scan, 6.0)), sound=few) is None
