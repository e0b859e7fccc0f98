"""What the errors of all positions have in common is found, and right positions are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refinement_support import correlation, displaced, made_scan, true_positions, with_patterns
from scipy import ndimage

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import raster_positions
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import Arrays, NumpyArrays, TorchArrays
from ptychopinn_ptychodus.refinement.iterate import chequerboard
from ptychopinn_ptychodus.refinement.position_terms import (
    Beginning,
    _Bench,
    _Fit,
    better_beginning,
    position_terms,
)
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.refinement.trials import FIT, TRIAL, Watch

CONFIG = RefinementConfig(epochs=6)


def errors(scan: RawData, how: str, size: float) -> np.ndarray:
    """Displacements of a size, pixels root mean square, (M, 2) [x, y] of mean 0."""
    centred = true_positions(scan) - true_positions(scan).mean(axis=0)
    time = np.linspace(-1, 1, len(scan))[:, None]
    wrong = {
        "drift": np.hstack((time, time**2)),
        "turn": centred[:, ::-1] * (1, -1),
        "shear": centred[:, ::-1] * (1, 0),
        "scale": centred * (1, 0.7),
    }[how]
    wrong = wrong - wrong.mean(axis=0)
    return np.asarray(wrong * size / np.sqrt((wrong**2).sum(1).mean()))


def off_by(found: np.ndarray, scan: RawData) -> float:
    wrong = found - true_positions(scan)
    return float(np.sqrt(((wrong - wrong.mean(0)) ** 2).sum(1).mean()))


def refined_error(scan: RawData, probe: np.ndarray) -> float:
    flat = np.ones((124, 120), np.complex64)
    free = np.asarray(probe * chequerboard(scan.N), np.complex64)
    return refine(scan, flat, free, CONFIG, device="cpu", stages=~(Stages.PUPIL | Stages.TERMS)).error


def beginning(scan: RawData, arrays: Arrays, *, sound: np.ndarray | None = None, **how: object) -> Beginning:
    """With the scan's own probe, which is right and in scale; its pupil is not tried."""
    options = {"pupil": False, "terms": True, "watch": Watch(), "per_photon": 1.0}
    options = options | {"refined_error": refined_error} | how
    probe = arrays.put(np.asarray(scan.probeGuess * chequerboard(scan.N), np.complex64))
    flat = np.ones((124, 120), np.complex64)
    indices = np.arange(len(scan)) if sound is None else sound
    return better_beginning(scan, indices, flat, probe, CONFIG, arrays, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["drift", "turn", "shear", "scale"])
def test_wrong_positions_are_found(scan: RawData, how: str) -> None:
    by = errors(scan, how, 2.0)
    moved = beginning(displaced(scan, by), NumpyArrays()).moved
    assert moved is not None
    assert off_by(true_positions(scan) + by + moved, scan) < 0.3
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-9)


def test_errors_of_ten_pixels_are_found_round_after_round(scan: RawData) -> None:
    by = errors(scan, "turn", 10.0)
    moved = beginning(displaced(scan, by), NumpyArrays()).moved
    assert moved is not None
    assert off_by(true_positions(scan) + by + moved, scan) < 0.5


def test_what_cannot_catch_up_is_given_up(scan: RawData) -> None:
    """Positions are tried again with the probe as it was given: not for eight rounds that lead nowhere."""
    recorded = displaced(scan, errors(scan, "turn", 10.0))

    def fitted(probe: np.ndarray, wanted: float) -> tuple[object, int]:
        seen: list[int] = []
        watch, arrays = Watch(on_patterns=seen.append), NumpyArrays()
        bench = _Bench(recorded, np.arange(len(scan)), (124, 120), CONFIG, arrays, watch, 1.0)
        wave = arrays.put(np.asarray(probe * chequerboard(scan.N), np.complex64))
        found = bench.fitted(wave, wanted)
        return found, sum(seen)

    right = fitted(scan.probeGuess, np.inf)[0]
    assert isinstance(right, _Fit)
    # the first rounds gain little, the later ones much: what can catch up does
    assert isinstance(fitted(scan.probeGuess, 1.1 * right.error)[0], _Fit)
    wrong = np.roll(scan.probeGuess, 13, -1) + scan.probeGuess
    found, patterns = fitted(wrong, 1.1 * right.error)
    assert found is None
    assert patterns <= 2 * (FIT + 2 * TRIAL) * len(scan)


def test_refinement_goes_on_from_them(scan: RawData, flat: np.ndarray) -> None:
    """Farther than a position may go by itself."""
    by = errors(scan, "turn", 6.0)
    assert np.abs(by).max() > CONFIG.position_range
    alone, found = (
        refine(displaced(scan, by), flat, scan.probeGuess, CONFIG, device="cpu", stages=stages)
        for stages in (~Stages.TERMS, Stages.ALL)
    )
    assert off_by(found.positions, scan) < 0.2 < 2.0 < off_by(alone.positions, scan)
    assert correlation(found.object, scan) > 0.98 > 0.9 > correlation(alone.object, scan)
    assert found.error < 0.2 * alone.error
    assert found.error <= found.start_error


@pytest.mark.parametrize("photons", [3e3, 1e6])
def test_right_positions_are_left_alone(photons: float) -> None:
    assert beginning(made_scan(photons, seed=11), NumpyArrays()).moved is None


def test_a_focus_that_is_off_is_not_taken_for_a_scale(scan: RawData, flat: np.ndarray) -> None:
    spectrum = np.fft.fft2(scan.probeGuess)
    f = np.fft.fftfreq(scan.N)
    probe = np.fft.ifft2(spectrum * np.exp(40j * (f[:, None] ** 2 + f**2))).astype(np.complex64)
    config = replace(CONFIG, epochs=10)
    found = refine(scan, flat, probe, config, device="cpu")
    assert off_by(found.positions, scan) < 0.1


@pytest.mark.parametrize("magnified", [0.97, 1.02])
def test_a_probe_of_another_size_is_not_taken_for_a_scale(
    scan: RawData, flat: np.ndarray, magnified: float
) -> None:
    """Other positions make up for it in part, a probe that is free as a whole. Its pupil is not tried."""
    away = (np.indices((scan.N, scan.N)) - (scan.N - 1) / 2) / magnified + (scan.N - 1) / 2
    probe = scan.probeGuess[0]
    wrong = ndimage.map_coordinates(probe.real, away) + 1j * ndimage.map_coordinates(probe.imag, away)
    config = replace(CONFIG, epochs=10)
    found = refine(scan, flat, wrong, config, device="cpu", stages=~Stages.PUPIL)
    assert off_by(found.positions, scan) < 0.05
    assert correlation(found.object, scan) > 0.998


def test_a_stretch_is_left_to_a_free_probe_that_explains_as_much(scan: RawData) -> None:
    recorded = displaced(scan, errors(scan, "scale", 2.0))
    tried = []

    def refined_error(scan: RawData, _: np.ndarray) -> float:
        tried.append(true_positions(scan))
        return 1.0

    assert beginning(recorded, NumpyArrays(), refined_error=refined_error).moved is None
    there, moved = tried
    np.testing.assert_array_equal(there, true_positions(recorded))
    assert off_by(moved, scan) < 0.3


def test_a_turn_is_nothing_that_a_probe_could_explain(scan: RawData) -> None:
    def refined_error(*_: object) -> float:
        raise AssertionError("nobody has to ask")

    recorded = displaced(scan, errors(scan, "turn", 2.0))
    assert beginning(recorded, NumpyArrays(), refined_error=refined_error).moved is not None


def test_positions_that_are_not_to_be_refined_are_kept_to_the_bit(scan: RawData, flat: np.ndarray) -> None:
    recorded = displaced(scan, errors(scan, "turn", 2.0))
    config = replace(CONFIG, epochs=3, positions=False)
    found = refine(recorded, flat, scan.probeGuess, config, device="cpu")
    np.testing.assert_array_equal(found.positions, true_positions(recorded))


@pytest.mark.parametrize("calls", [1, 30, 100])
def test_it_is_left_undone_when_it_is_asked_to_stop(scan: RawData, calls: int) -> None:
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) >= calls

    recorded = displaced(scan, errors(scan, "turn", 2.0))
    assert beginning(recorded, NumpyArrays(), watch=Watch(stop)).moved is None
    assert len(asked) == calls


def test_frames_without_beam_do_not_count_but_move_with_the_others(scan: RawData) -> None:
    by = errors(scan, "turn", 2.0)
    patterns = scan.diff3d.copy()
    patterns[::12] = 0.0
    recorded = displaced(with_patterns(scan, patterns), by)
    sound = np.flatnonzero(np.arange(len(scan)) % 12)
    moved = beginning(recorded, NumpyArrays(), sound=sound).moved
    assert moved is not None
    assert off_by(true_positions(scan) + by + moved, scan) < 0.3


def test_torch_finds_the_same(scan: RawData) -> None:
    pytest.importorskip("torch")
    recorded = displaced(scan, errors(scan, "drift", 2.0))
    one, other = (beginning(recorded, arrays).moved for arrays in (NumpyArrays(), TorchArrays("cpu")))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one, other, atol=0.02)


def test_terms_are_orthogonal_and_of_mean_square_one() -> None:
    x, y = raster_positions(12, 9, 5.0, jitter=0.3, seed=1)
    terms = position_terms(np.stack((x, y), -1))
    np.testing.assert_allclose(terms.T @ terms / len(terms), np.eye(terms.shape[1]), atol=1e-9)
    np.testing.assert_allclose(terms.mean(axis=0), 0.0, atol=1e-9)


def test_backlash_of_a_scan_to_and_fro_is_among_the_terms() -> None:
    """Also where the fast axis is turned; a scan that flies back has no direction to tell."""
    x, y = (v.reshape(10, 12) for v in raster_positions(10, 12, 5.0, jitter=0.2, seed=2))
    to_and_fro = x.copy()
    to_and_fro[1::2] = x[1::2, ::-1]
    sign = np.repeat((-1.0) ** np.arange(10), 12)
    turn = np.exp(0.7j)

    def explained(across: np.ndarray) -> float:
        where = (across + 1j * y).ravel() * turn
        terms = position_terms(np.stack((where.real, where.imag), -1))
        rest = sign - sign.mean()
        return float(((terms.T @ rest / len(rest)) ** 2).sum() / (rest**2).mean())

    assert explained(to_and_fro) > 0.6
    assert explained(x) < 0.2


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_few_positions_have_few_terms(count: int) -> None:
    where = np.random.default_rng(3).normal(size=(count, 2))
    assert position_terms(where).shape == (count, count // 4)


def test_positions_in_one_place_have_no_scale() -> None:
    assert np.isfinite(position_terms(np.ones((40, 2)))).all()
