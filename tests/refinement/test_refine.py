"""Refinement as its users see it: what it recovers, what it leaves alone, how it stops."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import (
    diffraction_intensity,
    extract_patches,
    make_object,
    make_probe,
    raster_positions,
    simulate_scan,
)
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import NumpyArrays, TorchArrays
from ptychopinn_ptychodus.refinement.solver import Refined, refine

QUICK = RefinementConfig(epochs=2)


def correlation(found: np.ndarray, scan: RawData) -> float:
    """Centred correlation with the truth, ramp and phase taken off, well inside of the scan."""
    truth = scan.objectGuess
    assert truth is not None
    inside = np.zeros(truth.shape, bool)
    inside[30:-30, 30:-30] = True
    return float(metrics.compare(found, truth, inside).complex_correlation_centred)


def displaced(scan: RawData, by: np.ndarray) -> RawData:
    return RawData(
        xcoords=scan.xcoords + by[:, 0],
        ycoords=scan.ycoords + by[:, 1],
        diff3d=scan.diff3d,
        probeGuess=scan.probeGuess,
        domain="amplitude",
    )


def with_bright_frame(scan: RawData, index: int) -> RawData:
    """The scan with one frame of noise that has ten times the energy of the one it replaces."""
    patterns = scan.diff3d.copy()
    energy = 10 * float((patterns[index] ** 2).sum())
    noise = np.random.default_rng(0).poisson(energy / scan.N**2, (scan.N, scan.N))
    patterns[index] = np.sqrt(noise)
    return RawData(
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        diff3d=patterns,
        probeGuess=scan.probeGuess,
        domain="amplitude",
    )


def true_positions(scan: RawData) -> np.ndarray:
    return np.stack((scan.xcoords, scan.ycoords), -1)


# ---------------------------------------------------------------------- what it recovers


@pytest.mark.parametrize("metric", ["amplitude", "poisson"])
def test_a_flat_object_becomes_the_true_one(scan, flat, metric):
    before = correlation(flat + 1e-6 * np.arange(flat.shape[1]), scan)
    result = refine(scan, flat, scan.probeGuess, RefinementConfig(epochs=15, metric=metric), device="cpu")
    assert correlation(result.object, scan) > 0.97 > before + 0.5
    assert result.error < 0.1 * result.start_error
    assert len(result.history) == 15
    assert not result.stopped


def test_the_result_explains_the_patterns_as_the_referee_computes_them(scan, flat):
    result = refine(scan, flat, scan.probeGuess, RefinementConfig(epochs=15), device="cpu")
    patches = extract_patches(result.object, *result.positions.T, scan.N)
    modelled = np.sqrt(diffraction_intensity(patches, result.probe))
    rest = ((modelled - scan.diff3d) ** 2).sum() / (scan.diff3d**2).sum()
    # the referee interpolates the object, which leaves a little
    assert rest == pytest.approx(result.error, rel=0.3)


@pytest.mark.parametrize("scale", [1e-6, 1e5])
def test_the_scale_of_the_probe_does_not_matter(scan, flat, scale):
    reference = refine(scan, flat, scan.probeGuess, QUICK, device="cpu")
    scaled = refine(scan, flat, scan.probeGuess * scale, QUICK, device="cpu")
    np.testing.assert_allclose(scaled.probe, reference.probe, atol=1e-2 * np.abs(reference.probe).max())
    assert scaled.error == pytest.approx(reference.error, rel=1e-2)


def test_positions_are_found_again(scan):
    wrong = np.random.default_rng(4).uniform(-1.0, 1.0, (len(scan), 2))
    wrong -= wrong.mean(axis=0)
    start = scan.objectGuess * 0 + 1
    off = displaced(scan, wrong)
    config = RefinementConfig(epochs=30)
    found = refine(off, start, scan.probeGuess, config, device="cpu")
    kept = refine(off, start, scan.probeGuess, dataclasses.replace(config, positions=False), device="cpu")
    rest = found.positions - true_positions(scan)
    rest -= rest.mean(axis=0)
    assert np.median(np.abs(rest)) < 0.1 * np.median(np.abs(wrong))
    assert found.error < 0.5 * kept.error
    np.testing.assert_array_equal(kept.positions, true_positions(off))


def test_positions_keep_their_range(scan, flat):
    wrong = np.random.default_rng(4).uniform(-1.0, 1.0, (len(scan), 2))
    off = displaced(scan, wrong)
    config = RefinementConfig(epochs=6, position_limit=1.0, position_range=0.3)
    moved = refine(off, flat, scan.probeGuess, config, device="cpu").positions - true_positions(off)
    assert np.abs(moved).max() == pytest.approx(0.3, abs=1e-6)


def test_positions_keep_their_mean(scan, flat):
    off = displaced(scan, np.random.default_rng(4).exponential(0.5, (len(scan), 2)))
    moved = refine(off, flat, scan.probeGuess, RefinementConfig(epochs=6), device="cpu").positions
    moved = moved - true_positions(off)
    assert np.abs(moved).max() > 0.1
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-9)


def test_a_wrong_probe_is_mended(scan, flat):
    frequency = np.fft.fftfreq(scan.N)
    blur = np.exp(120j * (frequency[:, None] ** 2 + frequency**2))
    wrong = np.fft.ifft2(np.fft.fft2(scan.probeGuess) * blur)
    config = RefinementConfig(epochs=20)
    mended = refine(scan, flat, wrong, config, device="cpu")
    kept = refine(scan, flat, wrong, dataclasses.replace(config, probe=False), device="cpu")
    assert _likeness(mended.probe, scan.probeGuess) > 0.95 > _likeness(wrong, scan.probeGuess) + 0.2
    assert mended.error < 0.2 * kept.error
    assert _likeness(kept.probe, wrong) == pytest.approx(1.0, abs=1e-5)


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two probes, wherever they are: object and probe may move together."""
    product = np.fft.ifft2(np.fft.fft2(one[0]) * np.conj(np.fft.fft2(other[0])))
    return float(np.abs(product).max() / np.linalg.norm(one[0]) / np.linalg.norm(other[0]))


def test_added_modes_explain_partial_coherence_and_come_out_orthogonal():
    x, y = raster_positions(11, 11, 5.0, jitter=0.3, origin=30.0, seed=1)
    scan = simulate_scan(
        make_object((114, 114), seed=2), make_probe(64, modes=2), x, y, 1e6, None, noise=False
    )
    flat, coherent = np.ones((114, 114)), scan.probeGuess[:1]
    one = refine(scan, flat, coherent, RefinementConfig(epochs=15), device="cpu")
    two = refine(scan, flat, coherent, RefinementConfig(epochs=15, probe_modes=2), device="cpu")
    assert one.probe.shape[0] == 1
    assert two.error < 0.5 * one.error
    gram = np.einsum("aij,bij->ab", two.probe, two.probe.conj())
    assert gram[0, 0].real > gram[1, 1].real > 0
    assert abs(gram[0, 1]) < 1e-4 * gram[0, 0].real


@pytest.mark.parametrize("photons", [30, 300])
def test_the_likelihood_starts_from_the_power_of_the_counts(scan, photons):
    assert scan.objectGuess is not None
    x, y = true_positions(scan).T
    dim = simulate_scan(scan.objectGuess, scan.probeGuess, x, y, photons=photons, seed=3)
    config = RefinementConfig(epochs=0, metric="poisson")
    found = refine(dim, dim.objectGuess, dim.probeGuess * 3, config, device="cpu")
    true_power = (np.abs(dim.probeGuess) ** 2).sum()
    assert (np.abs(found.probe) ** 2).sum() == pytest.approx(true_power, rel=0.1)


def test_the_amplitude_starts_from_the_scale_that_fits_it_best(scan):
    assert scan.objectGuess is not None
    x, y = true_positions(scan).T
    dim = simulate_scan(scan.objectGuess, scan.probeGuess, x, y, photons=30, seed=3)
    found = refine(dim, dim.objectGuess, dim.probeGuess * 3, RefinementConfig(epochs=0), device="cpu")
    modelled = np.sqrt(diffraction_intensity(extract_patches(found.object, x, y, dim.N), found.probe))
    rest = [((scale * modelled - dim.diff3d) ** 2).sum() for scale in (0.95, 1.0, 1.05)]
    assert rest[1] == min(rest)


# ---------------------------------------------------------------------- what it leaves alone


def test_grid_unlit_object_and_inputs_stay(scan):
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


def test_patches_may_reach_beyond_the_object(scan):
    assert scan.objectGuess is not None
    narrow = np.ones((64, 62))
    part = scan.select(np.flatnonzero((scan.xcoords < 61) & (scan.ycoords < 63)))
    result = refine(part, narrow, scan.probeGuess, RefinementConfig(epochs=8), device="cpu")
    assert result.object.shape == narrow.shape
    assert result.error < 0.3 * result.start_error
    # what it says of its object is true of the object that it hands over
    found = RawData(
        xcoords=result.positions[:, 0],
        ycoords=result.positions[:, 1],
        diff3d=part.diff3d,
        probeGuess=result.probe,
        domain="amplitude",
    )
    again = refine(found, result.object, result.probe, RefinementConfig(epochs=0), device="cpu")
    assert again.error == pytest.approx(result.error, rel=0.02)


def test_bad_pixels_do_not_matter(scan, flat):
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


def test_a_mapped_scan_will_do(scan, flat, tmp_path):
    scan.to_directory(tmp_path)
    mapped = refine(RawData.from_directory(tmp_path), flat, scan.probeGuess, QUICK, device="cpu")
    np.testing.assert_array_equal(
        mapped.object, refine(scan, flat, scan.probeGuess, QUICK, device="cpu").object
    )


@pytest.mark.parametrize("start", ["flat", "truth"])
def test_positions_that_did_not_move_are_those_of_the_scan_to_the_bit(scan, flat, start):
    # two epochs leave positions alone; from the truth, steps far too long are taken back
    config, object_ = (
        (QUICK, flat)
        if start == "flat"
        else (RefinementConfig(epochs=4, object_step=2.0, momentum=0.99, batch_size=8), scan.objectGuess)
    )
    result = refine(scan, object_, scan.probeGuess, config, device="cpu")
    assert (result.error == result.start_error) == (start == "truth")
    np.testing.assert_array_equal(result.positions, true_positions(scan))


# ---------------------------------------------------------------------- robustness


def test_a_bright_frame_does_not_undo_the_refinement_of_a_large_scan():
    x, y = raster_positions(17, 17, 5.0, jitter=0.3, origin=30.0, seed=1)
    scan = simulate_scan(make_object((144, 140), seed=2), make_probe(64), x, y, photons=1e6, seed=3)
    assert scan.objectGuess is not None
    near = 0.7 * scan.objectGuess + 0.3
    bright = with_bright_frame(scan, 2)
    result = refine(bright, near, scan.probeGuess, RefinementConfig(epochs=5), device="cpu")
    assert result.error < 0.6 * result.start_error


def test_a_bright_frame_ends_no_epoch(scan, flat):
    batches: list[bool] = []

    def stop() -> bool:
        batches.append(True)
        return False

    bright = with_bright_frame(scan, 0)
    config = RefinementConfig(epochs=6)
    result = refine(bright, flat, scan.probeGuess, config, should_stop=stop, device="cpu")
    assert len(batches) == 6 * 24
    assert result.error < 0.3 * result.start_error


def test_batches_of_a_small_scan_hold_four_patterns_or_more(scan, flat):
    batches: list[bool] = []

    def stop() -> bool:
        batches.append(True)
        return False

    few = scan.select(np.arange(0, 26))
    refine(few, flat, scan.probeGuess, RefinementConfig(epochs=1), should_stop=stop, device="cpu")
    assert len(batches) == 26 // 4


class _Overflowing(NumpyArrays):
    """One FFT gives NaN, as an overflow would."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at

    def fft(self, waves: Any) -> Any:
        self._left -= 1
        return super().fft(waves) * (np.nan if self._left == 0 else 1)


@pytest.mark.parametrize("at", [20, 120])
def test_an_epoch_that_overflows_is_taken_back_and_leaves_finite_figures(scan, flat, at):
    reports: list[Any] = []
    config = RefinementConfig(epochs=6)
    result = refine(scan, flat, scan.probeGuess, config, report=reports.append, device=_Overflowing(at))
    errors = [result.start_error, *result.history]
    assert np.isfinite(errors).all()
    assert any(one == after for one, after in itertools.pairwise(errors)), "nothing overflowed"
    assert [report.error for report in reports] == result.history
    assert len(result.history) == 6
    assert result.error < 0.5 * result.start_error


def test_the_result_is_never_worse_than_the_start(scan):
    for seed in range(3):
        # from the truth, steps that are far too long lead away
        wild = RefinementConfig(
            epochs=2, object_step=2.0, probe_step=2.0, momentum=0.99, batch_size=8, seed=seed
        )
        result = refine(scan, scan.objectGuess, scan.probeGuess, wild, device="cpu")
        assert result.error <= result.start_error
        assert np.isfinite(result.object).all()
        assert np.isfinite(result.probe).all()
        assert np.isfinite(result.positions).all()


def test_it_goes_on_from_the_best_when_an_epoch_fails(scan, flat):
    wild = RefinementConfig(epochs=12, object_step=2.0, momentum=0.95, illumination_floor=1e-3)
    result = refine(scan, flat, scan.probeGuess, wild, device="cpu")
    assert max(result.history) > min(result.history) * 2, "nothing went wrong: make it wilder"
    assert result.error < 0.5 * result.start_error


def test_runs_are_repeatable_and_seeds_differ(scan, flat):
    one, two, other = (
        refine(scan, flat, scan.probeGuess, dataclasses.replace(QUICK, seed=seed), device="cpu").object
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_no_epochs_return_the_start_with_the_probe_in_scale(scan):
    result = refine(scan, scan.objectGuess, scan.probeGuess * 7, RefinementConfig(epochs=0), device="cpu")
    np.testing.assert_array_equal(result.object, scan.objectGuess)
    np.testing.assert_allclose(result.probe, scan.probeGuess, rtol=1e-2, atol=1e-3)
    assert result.history == []
    assert result.error == result.start_error


# ---------------------------------------------------------------------- progress and stop


def test_reports_count_epochs_and_progress_ends_at_one(scan, flat):
    reports: list[Any] = []
    fractions: list[float] = []
    result = refine(
        scan, flat, scan.probeGuess, QUICK, report=reports.append, progress=fractions.append, device="cpu"
    )
    assert [(r.epoch, r.nepochs) for r in reports] == [(1, 2), (2, 2)]
    assert [r.error for r in reports] == result.history
    assert reports[-1].seconds_left == 0
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_progress_ends_at_one_when_the_last_epoch_is_given_up(scan):
    batches: list[bool] = []
    fractions: list[float] = []

    def stop() -> bool:
        batches.append(True)
        return False

    wild = RefinementConfig(epochs=1, object_step=2.0, momentum=0.99, illumination_floor=1e-3)
    start = scan.objectGuess
    refine(scan, start, scan.probeGuess, wild, progress=fractions.append, should_stop=stop, device="cpu")
    assert len(batches) < 24, "nothing went wrong: make it wilder"
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_stop_is_answered_before_the_next_batch_with_the_last_whole_epoch(scan, flat):
    results = []
    for batches in (2 * 24, 2 * 24 + 5):
        calls: list[bool] = []

        def stop(calls: list[bool] = calls, batches: int = batches) -> bool:
            calls.append(len(calls) >= batches)
            return calls[-1]

        config = RefinementConfig(epochs=50)
        results.append(refine(scan, flat, scan.probeGuess, config, should_stop=stop, device="cpu"))
        assert len(calls) == batches + 1
    assert all(result.stopped and len(result.history) == 2 for result in results)
    np.testing.assert_array_equal(results[0].object, results[1].object)
    assert results[0].error < 0.5 * results[0].start_error


def test_stopped_at_once_it_returns_the_start(scan, flat):
    result = refine(scan, flat, scan.probeGuess, QUICK, should_stop=lambda: True, device="cpu")
    assert result.stopped
    np.testing.assert_array_equal(result.object, flat)


# ---------------------------------------------------------------------- devices


def assert_same(one: Refined, other: Refined) -> None:
    """The same but for rounding, which the steps at dim borders multiply."""
    assert one.error == pytest.approx(other.error, rel=1e-2)
    inside = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(one.object[inside], other.object[inside], atol=2e-2)
    np.testing.assert_allclose(one.positions, other.positions, atol=2e-3)


def test_torch_computes_the_same(scan, flat):
    pytest.importorskip("torch")
    config = RefinementConfig(epochs=3, probe_modes=2)
    one = refine(scan, flat, scan.probeGuess, config, device="cpu")
    assert_same(refine(scan, flat, scan.probeGuess, config, device=TorchArrays("cpu")), one)


def test_a_gpu_computes_the_same(scan, flat):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    config = RefinementConfig(epochs=3, probe_modes=2)
    one = refine(scan, flat, scan.probeGuess, config, device="cpu")
    assert_same(refine(scan, flat, scan.probeGuess, config, device="cuda"), one)
