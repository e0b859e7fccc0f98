"""A computed probe that is off in a few figures of the optics is put right in its pupil."""

from __future__ import annotations

import math

import numpy as np
import pytest
from refinement_support import correlation

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import (
    diffraction_intensity,
    extract_patches,
    make_object,
    raster_positions,
)
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.arrays import NumpyArrays
from ptychopinn_ptychodus.refinement.iterate import chequerboard
from ptychopinn_ptychodus.refinement.pupil import with_pupil_corrected
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.refinement.trials import TRIAL, Watch

N = 64


def lens(aperture: float, defocus: float, astigmatism: float = 0.0) -> np.ndarray:
    """A lens' probe, (N, N): aperture in cycles per pixel, phases at its rim in rad."""
    f = np.fft.fftfreq(N)
    y, x = f[:, None] / aperture, f[None, :] / aperture
    radius = np.hypot(x, y)
    phase = defocus * radius**2 + astigmatism * (x**2 - y**2)
    centre = np.exp(-2j * math.pi * (f[:, None] + f) * (N - 1) / 2)
    return np.fft.ifft2(0.5 * (1 - np.tanh((radius - 1) * 6)) * np.exp(1j * phase) * centre)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """|⟨a, b⟩| of the normalised first modes, the ramp and shift apart that go with the object's."""
    first, second = (p.reshape(-1, N, N)[0] / np.linalg.norm(p) for p in (a, b))
    return max(
        float(np.abs(np.vdot(np.roll(first, (dy, dx), (0, 1)), second)))
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    )


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return lens(0.2, 8.0, astigmatism=0.8)


@pytest.fixture(scope="module")
def weak_raster(truth: np.ndarray) -> RawData:
    return weak_scan(truth, photons=1e5, seed=5)


def weak_scan(truth: np.ndarray, photons: float, seed: int, contrast: float = 0.15) -> RawData:
    """An exact raster under a weak object, with few counts: it tells the pixels of a probe badly."""
    x, y = raster_positions(13, 13, 5.0, jitter=0.0, origin=36.0)
    made = make_object((132, 132), "mixed", seed=4)
    weak = np.exp(1j * contrast * np.angle(made))
    expected = diffraction_intensity(extract_patches(weak, x, y, N), truth[None])
    expected *= photons / expected.sum((1, 2)).mean()
    return RawData(
        xcoords=x,
        ycoords=y,
        diff3d=np.random.default_rng(seed).poisson(expected),
        probeGuess=truth,
        objectGuess=weak,
        domain="counts",
    )


def refined(raw: RawData, probe: np.ndarray, *, pupil: bool) -> Refined:
    config = RefinementConfig(epochs=6)
    flat = np.ones((132, 132), np.complex64)
    return refine(raw, flat, probe, config, device="cpu", stages=Stages.ALL if pupil else ~Stages.PUPIL)


def test_focus_aperture_and_astigmatism_are_found(weak_raster: RawData, truth: np.ndarray) -> None:
    computed = lens(0.21, 10.9)
    assert overlap(computed, truth) < 0.9
    free, found = (refined(weak_raster, computed, pupil=pupil) for pupil in (False, True))
    assert overlap(free.probe, truth) < 0.93
    assert overlap(found.probe, truth) > 0.98
    assert correlation(found.object, weak_raster) > correlation(free.object, weak_raster) + 0.02
    assert found.error < found.start_error


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_focus_is_found_where_noise_hides_which_way_to_go(truth: np.ndarray, seed: int) -> None:
    scan = weak_scan(truth, photons=3e4, seed=seed, contrast=0.07)
    found = refined(scan, lens(0.21, 10.9), pupil=True)
    assert overlap(found.probe, truth) > 0.985


def test_a_probe_that_is_right_stays_so(weak_raster: RawData, truth: np.ndarray) -> None:
    assert overlap(refined(weak_raster, truth, pupil=True).probe, truth) > 0.99


@pytest.fixture(scope="module")
def near_focus() -> RawData:
    """A strong object under a lens that is 6 rad from its focus."""
    return weak_scan(lens(0.22, 6.0), photons=1e6, seed=2, contrast=1.0)


def pupil_of(raw: RawData, probe: np.ndarray, on_patterns: list[int]) -> np.ndarray | None:
    arrays, flat = NumpyArrays(), np.ones((132, 132), np.complex64)
    # in scale: as bright as the patterns
    scaled = probe * np.sqrt((raw.diff3d**2).sum((1, 2)).mean() / (np.abs(probe) ** 2).sum())
    wave = np.asarray(scaled[None] * chequerboard(N), np.complex64)
    watch = Watch(on_patterns=on_patterns.append)
    found = with_pupil_corrected(raw, flat, wave, RefinementConfig(), arrays, watch, 1.0)
    return None if found is None else found.probe * chequerboard(N)


def test_a_right_probe_costs_few_trials(near_focus: RawData) -> None:
    seen: list[int] = []
    found = pupil_of(near_focus, lens(0.22, 6.0), seen)
    assert found is None or overlap(found, lens(0.22, 6.0)) > 0.999
    # the whole of it is less than that of eight trials that are not given up
    assert sum(seen) < 8 * TRIAL * len(near_focus)


def test_it_is_left_undone_when_it_is_asked_to_stop(weak_raster: RawData) -> None:
    arrays, calls = NumpyArrays(), []

    def stop() -> bool:
        calls.append(True)
        return len(calls) == 3

    flat, probe = np.ones((132, 132), np.complex64), weak_raster.probeGuess
    config = RefinementConfig()
    assert with_pupil_corrected(weak_raster, flat, probe, config, arrays, Watch(stop), 1.0) is None
    assert len(calls) == 3


def test_a_probe_that_is_not_to_be_refined_is_not_touched(weak_raster: RawData) -> None:
    computed = lens(0.21, 10.9).astype(np.complex64)
    config = RefinementConfig(epochs=1, probe=False)
    found = refine(weak_raster, np.ones((132, 132), np.complex64), computed, config, device="cpu").probe[0]
    np.testing.assert_allclose(found / found[32, 32], computed / computed[32, 32], rtol=1e-3, atol=1e-4)


def test_frames_without_beam_and_flashes_change_neither_probe_nor_its_power(
    weak_raster: RawData, truth: np.ndarray
) -> None:
    """A mean over all frames would have made a probe of other power, and an object to go with it."""
    counts = np.round(weak_raster.diff3d.astype(np.float64) ** 2)
    counts[::12] = 0.0
    counts[7::50] *= 11.0
    broken = RawData(
        xcoords=weak_raster.xcoords,
        ycoords=weak_raster.ycoords,
        diff3d=counts,
        probeGuess=truth,
        objectGuess=weak_raster.objectGuess,
        domain="counts",
    )
    computed = lens(0.21, 10.9)
    free, found = (refined(broken, computed, pupil=pupil) for pupil in (False, True))
    assert overlap(found.probe, truth) > 0.98
    assert np.linalg.norm(found.probe) == pytest.approx(np.linalg.norm(free.probe), rel=1e-3)
