"""What a refinement recovers: object, probe, modes, positions, scale."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from refinement_support import QUICK, correlation, displaced, true_positions

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
from ptychopinn_ptychodus.refinement.solver import refine


@pytest.mark.parametrize("metric", ["amplitude", "poisson"])
def test_a_flat_object_becomes_the_true_one(scan: RawData, flat: np.ndarray, metric: str) -> None:
    before = correlation(flat + 1e-6 * np.arange(flat.shape[1]), scan)
    result = refine(scan, flat, scan.probeGuess, RefinementConfig(epochs=15, metric=metric), device="cpu")
    assert correlation(result.object, scan) > 0.97 > before + 0.5
    assert result.error < 0.1 * result.start_error
    assert len(result.history) == 15
    assert not result.stopped


def test_the_result_explains_the_patterns_as_the_reference_computes_them(
    scan: RawData, flat: np.ndarray
) -> None:
    result = refine(scan, flat, scan.probeGuess, RefinementConfig(epochs=15), device="cpu")
    x, y = result.positions.T
    patches = extract_patches(result.object, x, y, scan.N)
    modelled = np.sqrt(diffraction_intensity(patches, result.probe))
    rest = ((modelled - scan.diff3d) ** 2).sum() / (scan.diff3d**2).sum()
    # the reference interpolates the object, which leaves a little
    assert rest == pytest.approx(result.error, rel=0.3)


@pytest.mark.parametrize("scale", [1e-6, 1e5])
def test_the_scale_of_the_probe_does_not_matter(scan: RawData, flat: np.ndarray, scale: float) -> None:
    reference = refine(scan, flat, scan.probeGuess, QUICK, device="cpu")
    scaled = refine(scan, flat, scan.probeGuess * scale, QUICK, device="cpu")
    np.testing.assert_allclose(scaled.probe, reference.probe, atol=1e-2 * np.abs(reference.probe).max())
    assert scaled.error == pytest.approx(reference.error, rel=1e-2)


def test_positions_are_found_again(scan: RawData) -> None:
    wrong = np.random.default_rng(4).uniform(-1.0, 1.0, (len(scan), 2))
    wrong -= wrong.mean(axis=0)
    assert scan.objectGuess is not None
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


def test_positions_keep_their_range(scan: RawData, flat: np.ndarray) -> None:
    wrong = np.random.default_rng(4).uniform(-1.0, 1.0, (len(scan), 2))
    off = displaced(scan, wrong)
    config = RefinementConfig(epochs=6, position_limit=1.0, position_range=0.3)
    moved = refine(off, flat, scan.probeGuess, config, device="cpu").positions - true_positions(off)
    assert np.abs(moved).max() == pytest.approx(0.3, abs=1e-6)


def test_positions_keep_their_mean(scan: RawData, flat: np.ndarray) -> None:
    off = displaced(scan, np.random.default_rng(4).exponential(0.5, (len(scan), 2)))
    moved = refine(off, flat, scan.probeGuess, RefinementConfig(epochs=6), device="cpu").positions
    moved = moved - true_positions(off)
    assert np.abs(moved).max() > 0.1
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-9)


def test_a_wrong_probe_is_mended(scan: RawData, flat: np.ndarray) -> None:
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


def test_added_modes_explain_partial_coherence_and_come_out_orthogonal() -> None:
    x, y = raster_positions(11, 11, 5.0, jitter=0.3, origin=30.0, seed=1)
    scan = simulate_scan(
        make_object((114, 114), seed=2), make_probe(64, modes=2), x, y, 1e6, None, noise=False
    )
    flat, coherent = np.ones((114, 114), complex), scan.probeGuess[:1]
    one = refine(scan, flat, coherent, RefinementConfig(epochs=15), device="cpu")
    two = refine(scan, flat, coherent, RefinementConfig(epochs=15, probe_modes=2), device="cpu")
    assert one.probe.shape[0] == 1
    assert two.error < 0.5 * one.error
    gram = np.einsum("aij,bij->ab", two.probe, two.probe.conj())
    assert gram[0, 0].real > gram[1, 1].real > 0
    assert abs(gram[0, 1]) < 1e-4 * gram[0, 0].real


@pytest.mark.parametrize("photons", [30, 300])
def test_the_likelihood_starts_from_the_power_of_the_counts(scan: RawData, photons: int) -> None:
    assert scan.objectGuess is not None
    x, y = true_positions(scan).T
    dim = simulate_scan(scan.objectGuess, scan.probeGuess, x, y, photons=photons, seed=3)
    config = RefinementConfig(epochs=0, metric="poisson")
    found = refine(dim, scan.objectGuess, dim.probeGuess * 3, config, device="cpu")
    true_power = (np.abs(dim.probeGuess) ** 2).sum()
    assert (np.abs(found.probe) ** 2).sum() == pytest.approx(true_power, rel=0.1)


def test_the_amplitude_starts_from_the_scale_that_fits_it_best(scan: RawData) -> None:
    assert scan.objectGuess is not None
    x, y = true_positions(scan).T
    dim = simulate_scan(scan.objectGuess, scan.probeGuess, x, y, photons=30, seed=3)
    config = RefinementConfig(epochs=0, metric="amplitude")
    found = refine(dim, scan.objectGuess, dim.probeGuess * 3, config, device="cpu")
    modelled = np.sqrt(diffraction_intensity(extract_patches(found.object, x, y, dim.N), found.probe))
    rest = [((scale * modelled - dim.diff3d) ** 2).sum() for scale in (0.95, 1.0, 1.05)]
    assert rest[1] == min(rest)
