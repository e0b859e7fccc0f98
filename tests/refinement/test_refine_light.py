"""What the beam and the surroundings did is found along with the object: intensities, and a background."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from refinement_support import correlation, made_scan, with_patterns
from scipy import ndimage

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import Arrays, NumpyArrays, TorchArrays
from ptychopinn_ptychodus.refinement.background import Background, most_background
from ptychopinn_ptychodus.refinement.beam import Beam
from ptychopinn_ptychodus.refinement.gradients import FarPixels, far_pixels
from ptychopinn_ptychodus.refinement.iterate import Iterate, Light, chequerboard
from ptychopinn_ptychodus.refinement.model import ScanModel
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages

CONFIG = RefinementConfig(epochs=10)


def refined(scan: RawData, flat: np.ndarray) -> Refined:
    return refine(scan, flat, scan.probeGuess, CONFIG, device="cpu")


def with_light(scan: RawData, intensities: np.ndarray | float, background: float) -> RawData:
    """The scan as counted anew, in another light."""
    rate = scan.diff3d.astype(np.float64) ** 2 * np.reshape(intensities, (-1, 1, 1)) + background
    return with_patterns(scan, np.sqrt(np.random.default_rng(7).poisson(rate)).astype(np.float32))


@pytest.fixture(scope="module")
def uneven() -> np.ndarray:
    """(169,) intensities of a beam that jumps, of mean 1."""
    found = 1.0 + np.random.default_rng(8).normal(scale=0.05, size=169)
    return np.asarray(found / found.mean())


def test_an_unsteady_beam_is_found_and_told(
    scan: RawData, flat: np.ndarray, uneven: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    unsteady = with_light(scan, uneven, 0.0)
    with caplog.at_level(logging.WARNING):
        result = refined(unsteady, flat)
    assert result.light.intensities is not None
    assert np.corrcoef(result.light.intensities, uneven)[0, 1] > 0.95
    assert correlation(result.object, scan) > correlation(refined(scan, flat).object, scan) - 0.02
    assert "The beam's intensity changes from pattern to pattern, by " in caplog.text


def test_a_steady_beam_stays_so(scan: RawData, flat: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = refined(scan, flat)
    np.testing.assert_array_equal(result.light.intensities, 1.0)
    assert "intensity" not in caplog.text
    assert "background" not in caplog.text


@pytest.mark.parametrize("level", [5.0, 15.0])
def test_a_background_is_found_and_told(
    scan: RawData, flat: np.ndarray, level: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = refined(with_light(scan, 1.0, level), flat)
    assert result.light.background == pytest.approx(level, rel=0.1)
    assert correlation(result.object, scan) > correlation(refined(scan, flat).object, scan) - 0.005
    assert "The patterns hold a background of" in caplog.text


def test_a_background_under_few_counts_is_found(flat: np.ndarray) -> None:
    dim = made_scan(photons=1e4, seed=21)
    result = refined(with_light(dim, 1.0, 0.05), flat)
    assert 0.5 * 0.05 < result.light.background < 1.1 * 0.05


def test_frames_without_beam_do_not_make_a_beam_unsteady(scan: RawData, flat: np.ndarray) -> None:
    patterns = scan.diff3d.copy()
    patterns[[20, 77, 130]] = 0.0
    result = refined(with_patterns(scan, patterns), flat)
    np.testing.assert_array_equal(result.light.intensities, 1.0)


@pytest.mark.parametrize("epochs", [2, 10])
def test_a_steady_beam_on_a_sparse_scan_of_a_strong_object_stays_so(
    epochs: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its patterns jump by what each has of the object to itself."""
    x, y = raster_positions(8, 8, 19.2, jitter=0.3, origin=18.0, seed=1551)
    shape = (int(y.max()) + 20, int(x.max()) + 20)
    sparse = simulate_scan(make_object(shape, "blobs", seed=1551), make_probe(32), x, y, 1e7, seed=1551)
    with caplog.at_level(logging.WARNING):
        result = refine(
            sparse,
            np.ones(shape, np.complex64),
            sparse.probeGuess,
            RefinementConfig(epochs=epochs),
            device="cpu",
            stages=Stages.NONE,
        )
    np.testing.assert_array_equal(result.light.intensities, 1.0)
    assert "intensity" not in caplog.text


def overlapping() -> float:
    """Part of a pattern's light that falls where others have put light."""
    return 0.9


def test_a_steady_beam_of_few_counts_is_not_fitted_to_their_noise() -> None:
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 100, (200, 2))
    rate = 100.0 + 40 * np.sin(positions[:, 0] / 30)
    learnt = Beam(positions, rng.poisson(rate).astype(float), overlapping)
    for _ in range(5):
        learnt.learn(rate, 0.25, misfit=0.0)
    np.testing.assert_array_equal(learnt.intensities, 1.0)


def test_what_changes_slowly_over_the_sample_may_be_the_objects() -> None:
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 100, (200, 2))
    absorbed = 1e6 * (1 + 0.3 * np.sin(positions[:, 0] / 50))
    learnt = Beam(positions, absorbed, overlapping)
    for _ in range(5):
        learnt.learn(np.full(200, 1e6), 0.25, misfit=0.0)
    np.testing.assert_array_equal(learnt.intensities, 1.0)


@pytest.mark.parametrize(
    ("epochs", "misfit", "shared", "is_told"),
    [
        (3, 0.0, 0.6, True),
        (2, 0.0, 0.6, False),  # an object that is being found passes by such counts
        (5, 0.05, 0.6, False),  # Σ(√n - √λ)² over Σ n: other intensities explain (0.1 / 2)² of it
        (5, 0.01, 0.6, True),
        (5, 0.0, 0.4, False),  # an object that nobody else has lit explains them
    ],
)
def test_jumps_are_the_beams_where_that_can_be_known(
    epochs: int, misfit: float, shared: float, is_told: bool
) -> None:
    rng = np.random.default_rng(0)
    jumps = np.exp(rng.normal(scale=0.1, size=200))
    learnt = Beam(rng.uniform(0, 100, (200, 2)), 1e6 * jumps, lambda: shared)
    for _ in range(epochs):
        assert (learnt.intensities == 1).all()
        learnt.learn(1e6 * learnt.intensities, 0.25, misfit=1e6 * misfit)
        if not (learnt.intensities == 1).all():
            break
    if is_told:
        assert np.corrcoef(learnt.intensities, jumps)[0, 1] > 0.95
    else:
        np.testing.assert_array_equal(learnt.intensities, 1.0)


def test_a_background_starts_from_what_is_there_and_never_exceeds_it() -> None:
    background = Background(2.0, 2.0)
    assert background.level == 0.0
    background.learn(FarPixels())
    assert (background.level, background.part) == pytest.approx((2.0, 1.0))
    background.learn(FarPixels(10.0, 5.0))
    assert background.level == pytest.approx(2.0)
    background.learn(FarPixels(-5.0, 5.0))
    assert background.level == pytest.approx(1.0)
    background.learn(FarPixels(-50.0, 5.0))
    background.learn(FarPixels(50.0, 5.0))
    assert background.level == 0.0, "what the patterns hold nothing of stays away"


def most_in(rate: np.ndarray, far_field: np.ndarray | None = None) -> float:
    """What patterns of these rates (M, 64, 64) may have of background, if that is the probe's far field."""
    counts = np.random.default_rng(3).poisson(rate)
    where = 40.0 + np.arange(len(counts))
    raw = RawData(
        xcoords=where,
        ycoords=where,
        diff3d=counts,
        probeGuess=np.ones((64, 64), np.complex64),
        domain="counts",
    )
    wave = np.zeros((1, 64, 64)) if far_field is None else np.sqrt(far_field)[None]
    probe = np.fft.ifft2(wave, norm="ortho").astype(np.complex64)
    return most_background(ScanModel(raw, NumpyArrays(), "amplitude"), probe, np.arange(len(counts)), 1.0)


def test_a_pupil_that_fills_the_detector_is_no_background() -> None:
    pupil = np.full((64, 64), 200.0)
    assert most_in(np.repeat(pupil[None], 40, 0), pupil) < 0.01 * 200.0


def test_what_ends_far_from_the_beam_is_no_background() -> None:
    rate = np.zeros((40, 64, 64))
    rate[:, 3:-3, 3:-3] = 50.0
    assert most_in(rate) < 10.0


def test_an_object_under_a_pupil_that_fills_the_detector_is_found() -> None:
    frequency = np.fft.fftfreq(64)
    pupil = np.exp(24j * np.pi * (frequency[:, None] ** 2 + frequency**2))
    probe = np.fft.fftshift(np.fft.ifft2(pupil)).astype(np.complex64)
    x, y = raster_positions(14, 14, 5.0, jitter=0.3, origin=32.0, seed=1)
    hills = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(132, 132)), 2)
    scan = simulate_scan(
        np.exp(0.05j * hills / hills.std()).astype(np.complex64), probe, x, y, photons=1e6, seed=3
    )
    result = refined(scan, np.ones((132, 132), np.complex64))
    assert result.light.background < 0.01 * float((scan.diff3d**2).mean())
    assert correlation(result.object, scan) > 0.9


def test_what_is_the_same_in_all_patterns_may_be_background() -> None:
    assert most_in(np.full((40, 64, 64), 3.0)) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_speckle_is_no_background(level: float) -> None:
    speckle = np.random.default_rng(4).exponential(3.0, size=(40, 64, 64))
    assert most_in(speckle + level) == pytest.approx(level, abs=0.4)


def test_a_few_broken_patterns_are_no_background() -> None:
    rate = np.full((40, 64, 64), 0.5)
    rate[:4] = 100.0
    assert most_in(rate) == pytest.approx(0.5, rel=0.05)


def test_a_background_that_is_next_to_nothing_is_left_alone() -> None:
    background = Background(0.01, 2.0)
    background.learn(FarPixels())
    background.learn(FarPixels(1e9, 1.0))
    assert background.level == 0.0


def test_far_pixels_are_good_ones_at_the_corners() -> None:
    good = np.ones((64, 64), bool)
    good[:32] = False
    far = far_pixels(good)
    assert good.ravel()[far].all()
    assert len(far) == pytest.approx(0.25 * good.sum(), rel=0.02)
    y, x = np.unravel_index(far, good.shape)
    assert np.hypot(x - 32, y - 32).min() > 25


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_light_is_part_of_the_model(scan: RawData, library: str) -> None:
    if library == "torch":
        pytest.importorskip("torch")
    arrays: Arrays = NumpyArrays() if library == "numpy" else TorchArrays("cpu")
    assert scan.objectGuess is not None
    canvas = np.pad(scan.objectGuess, 8, constant_values=1).astype(np.complex64)
    positions = np.stack((scan.xcoords, scan.ycoords), -1) + 8
    probe = (scan.probeGuess * chequerboard(scan.N)).astype(np.complex64)
    iterate = Iterate(arrays.put(canvas), arrays.put(probe), positions)
    model, some = ScanModel(scan, arrays, "poisson"), np.array([3, 90, 168])
    ((_, measured, before),) = model.amplitudes(iterate, some)
    intensities = np.linspace(0.5, 1.5, len(scan))
    model.light = Light(intensities, 0.7)
    ((_, _, after),) = model.amplitudes(iterate, some)
    counts, rate = arrays.get(measured).astype(float) ** 2, arrays.get(after).astype(float) ** 2
    expected = arrays.get(before).astype(float) ** 2 * intensities[some, None, None] + 0.7
    np.testing.assert_allclose(rate, expected, rtol=1e-4)
    found = model.gradients(iterate, some, probe=False, positions=False, light=True)
    assert found.far is not None
    assert found.modelled is not None
    far = far_pixels(~scan.bad_pixels)
    n, there = (values.reshape(3, -1)[:, far] for values in (counts, rate))
    assert found.far.excess == pytest.approx(float((n / there - 1).sum()), rel=1e-3)
    assert found.far.certainty == pytest.approx(float((1 / there).sum()), rel=1e-3)
    np.testing.assert_allclose(found.modelled, rate.sum((1, 2)), rtol=1e-4)
