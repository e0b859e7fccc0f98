"""Refinement as its users see it: what it recovers, what it leaves alone, how it stops, what it refuses."""

from __future__ import annotations

import dataclasses
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
from ptychopinn_ptychodus.refinement import RefinementConfig, refine
from ptychopinn_ptychodus.refinement.arrays import TorchArrays, arrays_for

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


# ---------------------------------------------------------------------- robustness


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


def test_torch_computes_the_same(scan, flat):
    pytest.importorskip("torch")
    config = RefinementConfig(epochs=3, probe_modes=2)
    one = refine(scan, flat, scan.probeGuess, config, device="cpu")
    two = refine(scan, flat, scan.probeGuess, config, device=TorchArrays("cpu"))
    assert two.error == pytest.approx(one.error, rel=1e-2)
    np.testing.assert_allclose(two.object, one.object, atol=2e-2)
    np.testing.assert_allclose(two.positions, one.positions, atol=2e-2)


def test_a_gpu_computes_the_same(scan, flat):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    config = RefinementConfig(epochs=3, probe_modes=2)
    one = refine(scan, flat, scan.probeGuess, config, device="cpu")
    two = refine(scan, flat, scan.probeGuess, config, device="cuda")
    assert two.error == pytest.approx(one.error, rel=1e-2)
    np.testing.assert_allclose(two.object, one.object, atol=2e-2)


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="device = 'tpu' is not valid"):
        arrays_for("tpu")
    pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match="is not there"):
        arrays_for("cuda:99")


# ---------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"object_": np.full((124, 120), np.nan)}, "not finite"),
        ({"object_": np.ones((1, 124, 120))}, "one layer"),
        ({"object_": np.ones((60, 60))}, "outside the object"),
        ({"object_": np.zeros((124, 120))}, "no light"),
        ({"probe": np.zeros((64, 64))}, "zero everywhere"),
        ({"probe": np.full((1, 64, 64), np.inf)}, "not finite"),
        ({"probe": np.ones((32, 32))}, "64 × 64"),
        ({"config": RefinementConfig(probe_modes=1), "probe": np.ones((2, 64, 64))}, "probe modes"),
    ],
)
def test_starts_that_cannot_be_used_are_refused(scan, flat, change, message):
    arguments = {"object_": flat, "probe": scan.probeGuess, "config": QUICK} | change
    with pytest.raises(ValueError, match=message):
        refine(scan, **arguments, device="cpu")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", 2.5),
        ("batch_size", 0),
        ("probe", 1),
        ("positions", "yes"),
        ("metric", "mse"),
        ("probe_modes", 0),
        ("object_step", 0.0),
        ("probe_step", 2.5),
        ("position_step", float("nan")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("illumination_floor", 0.0),
        ("ridge", -1.0),
        ("position_limit", 0.0),
        ("position_range", float("inf")),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"RefinementConfig\.{field} = .* is not valid: use"):
        RefinementConfig(**{field: value})
