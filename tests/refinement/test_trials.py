"""Short trials: the middle of the patterns, probes in memory, and an end once the outcome is clear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from refinement_support import displaced, true_positions

from ptychopinn_ptychodus.data.grouping import neighbourhood_order
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import diffraction_intensity, extract_patches, raster_positions
from ptychopinn_ptychodus.refinement import RefinementConfig, measured, moved_probes, solver
from ptychopinn_ptychodus.refinement.arrays import Array, NumpyArrays
from ptychopinn_ptychodus.refinement.coarse import CoarseScan
from ptychopinn_ptychodus.refinement.iterate import Iterate, chequerboard
from ptychopinn_ptychodus.refinement.model import ScanModel
from ptychopinn_ptychodus.refinement.noise import photon_unit
from ptychopinn_ptychodus.refinement.start import Window
from ptychopinn_ptychodus.refinement.trials import FIT, TRIAL, Learning, Trials, Watch

N = 64
ARRAYS = NumpyArrays()


def soft_lens() -> np.ndarray:
    """A probe of two modes whose light is well within half of the detector, (2, N, N)."""
    f = np.fft.fftfreq(N)
    radius = np.hypot(f[:, None], f) / 0.11
    pupil = 0.5 * (1 - np.tanh((radius - 1) * 6)) * np.exp(9j * radius**2)
    centre = np.exp(-2j * np.pi * (f[:, None] + f) * (N - 1) / 2)
    first = np.fft.ifft2(pupil * centre)
    return np.stack((first, 0.4 * first * np.linspace(-1, 1, N))).astype(np.complex64)


def smooth_object() -> np.ndarray:
    y, x = np.indices((110, 104)) * 2 * np.pi
    phase = 0.5 * np.sin(x / 31 + y / 47) + 0.3 * np.cos(x / 23 - y / 19)
    return np.asarray((0.9 + 0.1 * np.cos(y / 29)) * np.exp(1j * phase), np.complex64)


def soft_scan(photons: float) -> RawData:
    x, y = raster_positions(7, 6, 5.3, jitter=0.4, origin=36.0, seed=3)
    expected = diffraction_intensity(extract_patches(smooth_object(), x, y, N), soft_lens())
    expected *= photons / expected.sum((1, 2)).mean()
    return RawData(
        xcoords=x,
        ycoords=y,
        diff3d=np.random.default_rng(1).poisson(expected),
        probeGuess=soft_lens(),
        domain="counts",
    )


# ---------------------------------------------------------------------- the middle of the patterns


def test_larger_pixels_show_the_same_in_the_middle() -> None:
    """Object, probe and positions all go over to larger pixels, to a fraction of one."""
    raw = soft_scan(1e4)
    coarse = CoarseScan(raw, ARRAYS, 1.0)
    size = coarse.raw.N
    assert N / 2 <= size < N
    probe = np.asarray(soft_lens() * chequerboard(N), np.complex64)
    object_ = smooth_object()
    every = np.arange(len(raw))

    def modelled(scan: RawData, canvas: np.ndarray, wave: np.ndarray) -> np.ndarray:
        where = np.stack((scan.xcoords, scan.ycoords), -1)
        found = ScanModel(scan, ARRAYS, "amplitude").amplitudes(Iterate(canvas, wave, where), every)
        return np.concatenate([amplitudes for _, _, amplitudes in found])

    whole = coarse.middle(modelled(raw, object_, probe))
    found = modelled(coarse.raw, coarse.object(object_), coarse.probe(probe))
    assert np.linalg.norm(found - whole) < 0.02 * np.linalg.norm(whole)
    np.testing.assert_array_equal(coarse.raw.diff3d, coarse.middle(raw.diff3d))


@pytest.mark.parametrize(("photons", "sizes"), [(1e3, (32,)), (1e9, range(33, 65))])
def test_the_brighter_patterns_are_the_more_is_looked_at(photons: float, sizes: range) -> None:
    """What larger pixels fold in has to be little beside the noise."""
    assert CoarseScan(soft_scan(photons), ARRAYS, 1.0).raw.N in sizes


def test_counts_that_are_no_photons_make_more_noise() -> None:
    raw = soft_scan(1e9)
    assert CoarseScan(raw, ARRAYS, 1e6).raw.N < CoarseScan(raw, ARRAYS, 1.0).raw.N


def test_the_less_may_be_beyond_the_more_is_looked_at() -> None:
    raw = soft_scan(1e7)
    sizes = [CoarseScan(raw, ARRAYS, 1.0, beyond=beyond).raw.N for beyond in (0.0, 0.1, 10.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


def test_patterns_with_light_up_to_their_rim_stay_whole(scan: RawData) -> None:
    flat = np.ones_like(scan.diff3d)
    lit = RawData(
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        diff3d=flat,
        probeGuess=scan.probeGuess,
        domain="amplitude",
    )
    coarse = CoarseScan(lit, ARRAYS, 1.0)
    assert coarse.raw is lit
    probe = np.asarray(scan.probeGuess * chequerboard(N), np.complex64)
    np.testing.assert_array_equal(coarse.probe(probe), probe)
    assert CoarseScan(soft_scan(1e3), ARRAYS, 1.0, whole=True).raw.N == N


def trial_of(scan: RawData, flat: np.ndarray) -> tuple[ScanModel, Iterate]:
    window = Window((flat.shape[0], flat.shape[1]), scan, 0.0)
    probe = np.asarray(scan.probeGuess * chequerboard(scan.N), np.complex64)
    where = window.inside(true_positions(scan))
    return ScanModel(scan, ARRAYS, "amplitude"), Iterate(window.cut(flat), probe, where)


# ---------------------------------------------------------------------- probes in memory


@pytest.mark.parametrize("room", [1 << 25, 20 * N * N])
def test_held_probes_change_nothing(
    scan: RawData, flat: np.ndarray, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """All of them, or as many as there is room for."""
    monkeypatch.setattr(moved_probes, "_ELEMENTS", room)
    model, iterate = trial_of(scan, flat)
    some = np.array([0, 5, 7, 19, 20, 100, 160])
    free = model.gradients(iterate, some, probe=True, positions=True)
    model.hold(iterate)
    for _ in range(2):
        found = model.gradients(iterate, some, probe=True, positions=True)
        np.testing.assert_array_equal(found.canvas, free.canvas)
        np.testing.assert_array_equal(found.probe, free.probe)
        np.testing.assert_array_equal(found.positions, free.positions)


def test_held_probes_are_not_taken_for_others(scan: RawData, flat: np.ndarray) -> None:
    model, iterate = trial_of(scan, flat)
    every = np.arange(len(scan))
    model.hold(iterate)
    model.gradients(iterate, every, probe=False, positions=False)
    for other in (
        Iterate(iterate.canvas, iterate.probe * 1.5, iterate.positions),
        Iterate(iterate.canvas, iterate.probe, iterate.positions + 0.3),
    ):
        free = trial_of(scan, flat)[0].gradients(other, every, probe=False, positions=False)
        found = model.gradients(other, every, probe=False, positions=False)
        np.testing.assert_array_equal(found.canvas, free.canvas)


def test_moved_probes_are_made_once(scan: RawData, flat: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the three Fourier transforms of a gradient one is saved, from the second pass on."""
    model, iterate = trial_of(scan, flat)
    every = np.arange(len(scan))
    calls: list[int] = []
    model.hold(iterate)
    ifft = NumpyArrays.ifft

    def counted(self: NumpyArrays, waves: Array) -> Array:
        calls.append(1)
        return ifft(self, waves)

    monkeypatch.setattr(NumpyArrays, "ifft", counted)
    for _ in range(2):
        calls.append(0)
        model.gradients(iterate, every, probe=False, positions=False)
    first = calls.index(0, 1)
    assert sum(calls[first:]) == sum(calls[:first]) / 2


# ---------------------------------------------------------------------- an end to what is clear


def trials_on(scan: RawData, model: ScanModel, seen: list[int]) -> Trials:
    every = np.arange(len(scan))
    order = neighbourhood_order(true_positions(scan))
    watch = Watch(on_patterns=seen.append)
    return Trials(model, ARRAYS, "amplitude", order, model.mean_counts(every), 1.0, watch)


def test_what_is_far_behind_its_rival_is_given_up(scan: RawData, flat: np.ndarray) -> None:
    seen: list[int] = []
    model, right = trial_of(scan, flat)
    wrong = Iterate(right.canvas, right.probe, right.positions[::-1].copy())
    trials = trials_on(scan, model, seen)
    good, bad = trials.run(right), trials.run(wrong)
    assert len(good.errors) == len(bad.errors) == TRIAL
    assert good.is_whole
    seen.clear()
    given_up = trials.run(wrong, rival=good)
    assert given_up.error == np.inf
    assert sum(seen) <= TRIAL // 2 * len(scan)
    # up to there it was the same, and nothing that is better is given up
    assert given_up.errors == bad.errors[: len(given_up.errors)]
    assert trials.run(right, rival=bad) == good
    assert trials.run(right, rival=good) == good


def test_a_little_behind_is_no_reason(scan: RawData, flat: np.ndarray) -> None:
    """Where noise is most of the error, all there is to tell is a few per cent."""
    model, right = trial_of(scan, flat)
    trials = trials_on(scan, model, [])
    good = trials.run(right)
    ahead = replace(good, errors=tuple(0.95 * error for error in good.errors))
    assert trials.run(right, rival=ahead).is_whole


def test_coefficients_that_are_not_worth_it_end_the_fit(scan: RawData, flat: np.ndarray) -> None:
    model, right = trial_of(scan, flat)
    trials = trials_on(scan, model, [])

    def learning(is_worth_it: bool) -> Learning:
        return Learning(
            np.zeros(1),
            0.1,
            probe=False,
            positions=False,
            slope=lambda *_: np.zeros(1),
            apply=lambda _: None,
            is_worth_it=lambda: is_worth_it,
        )

    short, long = (trials.run(right, learning(is_worth_it)) for is_worth_it in (False, True))
    assert not short.is_whole
    assert len(short.errors) < TRIAL < len(long.errors) == FIT


def test_the_unit_of_the_counts_is_looked_for_once(
    scan: RawData, flat: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where positions are moved, for which a refinement begins anew."""
    calls: list[int] = []

    def counted(*args: Any) -> float:
        calls.append(1)
        return photon_unit(*args)

    monkeypatch.setattr(measured, "photon_unit", counted)
    centred = true_positions(scan) - true_positions(scan).mean(axis=0)
    recorded = displaced(scan, 0.06 * centred[:, ::-1] * (1, -1))
    config = RefinementConfig(epochs=3)
    result = solver.refine(recorded, flat, scan.probeGuess, config, device="cpu")
    assert np.abs(result.positions - true_positions(recorded)).max() > 1.0
    assert len(calls) == 1
