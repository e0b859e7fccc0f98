"""A probe that changes its shape from pattern to pattern is found along with the object, and no other is."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from refinement_support import correlation, displaced, made_scan, with_patterns

from ptychopinn_ptychodus.data.probe import orthogonal_modes
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import diffraction_intensity, extract_patches
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import Arrays, NumpyArrays, TorchArrays
from ptychopinn_ptychodus.refinement.iterate import Iterate, Variation, chequerboard
from ptychopinn_ptychodus.refinement.model import ScanModel
from ptychopinn_ptychodus.refinement.report import RefinementReport
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.refinement.varying_probe import VaryingProbe, turned_alike

CONFIG = RefinementConfig(epochs=10)


@pytest.fixture(scope="module")
def weights(scan: RawData) -> np.ndarray:
    """(169,) how much of a second shape is in the probe of each pattern."""
    found = 0.2 * np.random.default_rng(3).normal(size=len(scan))
    return np.asarray(found - found.mean())


@pytest.fixture(scope="module")
def varying(scan: RawData, weights: np.ndarray) -> RawData:
    """The scan as counted anew, with a probe that varies."""
    assert scan.objectGuess is not None
    probe = np.reshape(scan.probeGuess, (-1, scan.N, scan.N)) * 1.0
    other = second_shape(probe[0])
    patches = extract_patches(scan.objectGuess, scan.xcoords, scan.ycoords, scan.N)
    expected = np.concatenate(
        [
            diffraction_intensity(patch[None], (probe[0] + by * other)[None])
            for patch, by in zip(patches, weights, strict=True)
        ]
    )
    expected *= float((scan.diff3d.astype(np.float64) ** 2).sum()) / float(expected.sum())
    counts = np.random.default_rng(4).poisson(expected)
    return with_patterns(scan, np.sqrt(counts).astype(np.float32))


def second_shape(probe: np.ndarray) -> np.ndarray:
    """As strong as the probe, and orthogonal to it: brighter on one side."""
    y, x = np.indices(probe.shape) - (len(probe) - 1) / 2
    other = probe * (x + 0.5 * y)
    other -= probe * np.vdot(probe, other) / np.vdot(probe, probe)
    return np.asarray(other * np.linalg.norm(probe) / np.linalg.norm(other))


def test_a_probe_that_varies_is_found_and_told(
    varying: RawData, scan: RawData, flat: np.ndarray, weights: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[RefinementReport] = []
    parts: list[float] = []
    with caplog.at_level(logging.WARNING):
        result = refine(
            varying,
            flat,
            varying.probeGuess,
            CONFIG,
            device="cpu",
            on_epoch=reports.append,
            on_progress=parts.append,
        )
    assert result.variation is not None
    fitted = np.linalg.lstsq(result.variation.weights, weights, rcond=None)[0]
    assert np.corrcoef(result.variation.weights @ fitted, weights)[0, 1] > 0.95
    np.testing.assert_allclose(result.variation.weights.mean(axis=0), 0.0, atol=1e-9)
    assert "The probe changes from pattern to pattern, by " in caplog.text
    fixed = refine(varying, flat, varying.probeGuess, CONFIG, device="cpu", stages=~Stages.VARIATION)
    assert fixed.variation is None
    assert result.error < 0.2 * fixed.error
    assert correlation(result.object, scan) > 0.96
    assert correlation(result.object, scan) > correlation(fixed.object, scan) + 0.08
    # it is refined anew once this is found, which counts as more work
    assert len(result.history) == len(reports) > CONFIG.epochs
    assert (reports[0].nepochs, reports[-1].nepochs) == (CONFIG.epochs, len(reports))
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)


def test_a_probe_that_does_not_vary_is_left_alone_where_positions_are_wrong(
    scan: RawData, flat: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = displaced(scan, np.random.default_rng(5).normal(scale=2.0, size=(len(scan), 2)))
    config = replace(CONFIG, epochs=8)
    with caplog.at_level(logging.DEBUG, logger="ptychopinn_ptychodus.refinement.varying_probe"):
        asked = refine(wrong, flat, wrong.probeGuess, config, device="cpu", stages=~Stages.TERMS)
    never = refine(
        wrong, flat, wrong.probeGuess, config, device="cpu", stages=~(Stages.TERMS | Stages.VARIATION)
    )
    assert "would lower the error" in caplog.text  # it is far enough from noise for the question
    assert asked.variation is None
    np.testing.assert_array_equal(asked.object, never.object)
    np.testing.assert_array_equal(asked.probe, never.probe)
    np.testing.assert_array_equal(asked.positions, never.positions)


def test_a_scan_near_noise_is_not_even_asked(
    scan: RawData, flat: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="ptychopinn_ptychodus.refinement.varying_probe"):
        result = refine(
            scan,
            flat,
            scan.probeGuess,
            replace(CONFIG, epochs=4),
            device="cpu",
            stages=~(Stages.PUPIL | Stages.TERMS),
        )
    assert result.variation is None
    assert not caplog.text


def test_a_stop_after_the_new_beginning_keeps_what_was_found_before(
    varying: RawData, flat: np.ndarray
) -> None:
    reports: list[RefinementReport] = []
    result = refine(
        varying,
        flat,
        varying.probeGuess,
        CONFIG,
        device="cpu",
        on_epoch=reports.append,
        should_stop=lambda: len(reports) == 4,
        stages=~(Stages.PUPIL | Stages.TERMS),
    )
    assert result.stopped
    assert result.variation is not None
    assert result.error < 0.7 * reports[-1].error  # of a fixed probe


ARRAYS = [NumpyArrays, lambda: pytest.importorskip("torch") and TorchArrays("cpu")]


@pytest.mark.parametrize("library", ARRAYS, ids=["numpy", "torch"])
def test_gradients_of_shapes_and_weights_are_finite_differences(library: object) -> None:
    arrays: Arrays = library()  # type: ignore[operator]
    scan = made_scan(photons=1e6, seed=1)
    assert scan.objectGuess is not None
    indices = np.array([3, 50, 80])
    model = ScanModel(scan, arrays, "amplitude")
    iterate = varied(scan, arrays)
    assert iterate.variation is not None
    found = model.gradients(iterate, indices, probe=True, positions=False).variation
    assert found is not None

    def loss(shapes: np.ndarray, weights: np.ndarray) -> float:
        tried = replace(iterate, variation=Variation(arrays.put(shapes.astype(np.complex64)), weights))
        return float(model.compare(tried, indices).errors.sum())

    shapes, weights = np.array(arrays.get(iterate.variation.shapes)), iterate.variation.weights
    rng = np.random.default_rng(2)
    change = 1e-2 * rng.normal(size=weights.shape)
    by_loss = (loss(shapes, weights + change) - loss(shapes, weights - change)) / 2
    assert 2.0 * float((found.weights * change[indices]).sum()) == pytest.approx(by_loss, rel=0.02)
    other = 1e-2 * shapes * rng.normal(size=(*shapes.shape[:-2], 1, 1)) * np.exp(0.7j)
    by_loss = (loss(shapes + other, weights) - loss(shapes - other, weights)) / 2
    slope = 2.0 * float(np.vdot(np.array(arrays.get(found.shapes)), other).real)
    assert slope == pytest.approx(by_loss, rel=0.02)
    # the curvature is what a change of all weights changes of the exit waves
    some = np.array([0.3, -0.7])
    by_shapes = np.einsum("j,jmyx->myx", some, shapes)
    patches = np.array(arrays.get(arrays.cut(iterate.canvas, *model.corners(iterate.positions)[:2], scan.N)))
    lit = np.abs(patches[indices][:, None] * by_shapes) ** 2
    np.testing.assert_allclose(some @ found.curvature @ some, lit.sum((1, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("library", ARRAYS, ids=["numpy", "torch"])
def test_the_mean_probe_and_the_principal_shapes_make_the_same_patterns(library: object) -> None:
    arrays: Arrays = library()  # type: ignore[operator]
    scan = made_scan(photons=1e6, seed=1)
    iterate = varied(scan, arrays)
    assert iterate.variation is not None
    model, everything = ScanModel(scan, arrays, "amplitude"), np.arange(len(scan))
    before = model.compare(iterate, everything)
    iterate.variation.weights += 0.1  # of a mean that is not 0
    shifted = model.compare(iterate, everything)
    VaryingProbe(model, arrays, CONFIG, everything, 1.0).keep_mean(iterate)
    after = model.compare(iterate, everything)
    np.testing.assert_allclose(after.errors, shifted.errors, rtol=1e-3)
    assert not np.allclose(before.errors, shifted.errors, rtol=1e-2)
    np.testing.assert_allclose(iterate.variation.weights.mean(axis=0), 0.0, atol=1e-9)
    spread = iterate.variation.weights.std(axis=0)
    assert spread[0] > spread[1]


def test_shapes_are_mixed_as_the_modes_are() -> None:
    rng = np.random.default_rng(0)
    modes, shapes = (rng.normal(size=(*n, 8, 8)).astype(np.complex64) for n in ((2,), (3, 2)))
    orthogonal = orthogonal_modes(modes)
    mixed = turned_alike(shapes, modes, orthogonal)
    # what incoherent modes show together does not depend on how they are mixed
    for shape, other in zip(shapes, mixed, strict=True):
        np.testing.assert_allclose(
            (np.abs(np.fft.fft2(orthogonal + 0.3 * other)) ** 2).sum(0),
            (np.abs(np.fft.fft2(modes + 0.3 * shape)) ** 2).sum(0),
            rtol=1e-3,
        )


def varied(scan: RawData, arrays: Arrays) -> Iterate:
    """The truth's object and probe, in two modes, and two shapes of any weights."""
    assert scan.objectGuess is not None
    rng = np.random.default_rng(1)
    first = np.reshape(scan.probeGuess, (-1, scan.N, scan.N))[0]
    modes = np.stack((first, 0.4 * second_shape(first))) * chequerboard(scan.N)
    shapes = np.stack((modes[::-1], modes * (1, 1j, -1)[1]))
    return Iterate(
        arrays.put(np.pad(scan.objectGuess, 8, mode="edge").astype(np.complex64)),  # patches reach beyond it
        arrays.put(modes.astype(np.complex64)),
        np.stack((scan.xcoords, scan.ycoords), -1) + 8.0,
        Variation(
            arrays.put(shapes.astype(np.complex64)), rng.normal(size=(len(scan), 2)) * np.array([0.3, 0.1])
        ),
    )
