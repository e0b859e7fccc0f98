"""A prior takes noise off dim objects, and neither draws nor erases what patterns tell of."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from refinement_support import correlation
from scipy import ndimage

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.denoising import without_noise
from ptychopinn_ptychodus.refinement.object_steps import Doubt
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages

SHAPE = (124, 124)
INSIDE = np.s_[32:-32, 32:-32]
OFF = RefinementConfig(epochs=6, probe=False, positions=False)
AUTO = replace(OFF, prior="auto")


def scan_of(object_: np.ndarray, photons: float) -> RawData:
    x, y = raster_positions(13, 13, 5.0, jitter=0.3, origin=31.0, seed=4)
    return simulate_scan(object_, make_probe(64), x, y, photons=photons, seed=5)


def refined(scan: RawData, config: RefinementConfig) -> Refined:
    flat = np.ones(SHAPE, np.complex64)
    return refine(scan, flat, scan.probeGuess, config, device="cpu", quiet=True, stages=Stages.NONE)


def parts_inside(found: np.ndarray) -> np.ndarray:
    """Over the mean, which has the phase that patterns do not tell."""
    inside = found[INSIDE]
    return np.asarray(inside / np.median(inside.real + 1j * inside.imag), np.complex128)


def dots() -> np.ndarray:
    """Three of them, of a radius of 2 pixels, on nothing."""
    marks = np.zeros(SHAPE)
    marks[(48, 60, 75), (70, 45, 78)] = 1
    near = ndimage.distance_transform_edt(1 - marks) <= 2.0
    return np.asarray((1 - 0.4 * near) * np.exp(0.6j * near), np.complex64)


def texture() -> np.ndarray:
    rng = np.random.default_rng(3)
    grain = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.0)
    return np.asarray(np.exp(0.5j * grain / grain.std()), np.complex64)


@pytest.fixture
def whatever_patterns_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prior is taken whether it foretells patterns better or not."""
    monkeypatch.setattr("ptychopinn_ptychodus.refinement.denoising.SURE", -math.inf)


def disk() -> np.ndarray:
    y, x = np.indices(SHAPE) - 62.0
    inside = ndimage.gaussian_filter((np.hypot(x, y) < 17).astype(float), 0.7)
    return np.asarray((1 - 0.5 * inside) * np.exp(1.0j * inside), np.complex64)


def test_flat_regions_are_flatter_where_patterns_agree() -> None:
    truth = disk()
    scan = scan_of(truth, 1e4)
    without, having = (refined(scan, config) for config in (OFF, AUTO))
    assert having.denoised
    assert not without.denoised
    one, other = (correlation(result.object, scan) for result in (without, having))
    assert other > one


@pytest.mark.usefixtures("whatever_patterns_say")
def test_dots_stay_and_the_noise_around_them_goes() -> None:
    truth = dots()
    scan = scan_of(truth, 1e4)
    without, having = (refined(scan, config) for config in (OFF, AUTO))
    assert having.denoised
    true = truth[INSIDE]
    dotted = abs(true - 1) > 0.1
    far = ~ndimage.binary_dilation(dotted, iterations=4)
    one, other = (parts_inside(result.object) for result in (without, having))
    assert abs(other[far] - 1).std() < 0.7 * abs(one[far] - 1).std()
    shown = [abs(1 - image[dotted].mean()) for image in (one, other)]
    assert shown[1] > 0.93 * shown[0]


@pytest.mark.usefixtures("whatever_patterns_say")
def test_nothing_is_drawn_on_an_empty_object() -> None:
    scan = scan_of(np.ones(SHAPE, np.complex64), 3e3)
    worst = [abs(parts_inside(refined(scan, config).object) - 1).max() for config in (OFF, AUTO)]
    assert worst[1] <= 1.001 * worst[0]


@pytest.mark.parametrize("photons", [1e4, 1e6])
def test_fine_texture_and_bright_scans_are_left_to_the_patterns(photons: float) -> None:
    scan = scan_of(texture(), photons)
    without, having = (refined(scan, config) for config in (OFF, AUTO))
    assert not having.denoised
    np.testing.assert_array_equal(having.object, without.object)


@pytest.mark.parametrize(("width", "least"), [(1, 0.75), (3, 0.45)])
def test_what_is_taken_off_looks_like_noise(width: int, least: float) -> None:
    """Fine stripes of three standard deviations on one half stay; of coarse ones, half may be lost."""
    rng = np.random.default_rng(0)
    spread = np.array([0.05, 0.05])
    doubt = Doubt(1.0 + 0j, spread, np.broadcast_to(np.float32(0.05), (2, *SHAPE)))
    noise = ndimage.gaussian_filter(rng.normal(size=(2, *SHAPE)), (0, 1, 1))
    noise *= 0.05 / noise.std()
    stripes = 0.3 * (np.arange(SHAPE[1]) // width % 2 - 0.5) * (np.arange(SHAPE[1]) > 62)
    given = 1 + stripes + noise[0] + 1j * noise[1]
    found = without_noise(given, doubt, 1.0)
    empty, striped = np.s_[:, :52], np.s_[:, 72:]
    assert np.std(found[empty]) < 0.55 * np.std(given[empty])
    kept = np.vdot(np.broadcast_to(stripes, SHAPE)[striped], found.real[striped]) / (stripes[72:] ** 2).sum()
    assert kept / SHAPE[0] > least
    assert max(abs((found - given).real).max(), abs((found - given).imag).max()) < 0.1 + 1e-6


def test_a_global_phase_and_scale_make_no_difference() -> None:
    factor = 1.7 * np.exp(2j)
    noise = np.random.default_rng(0).normal(size=(2, *SHAPE)) * 0.05
    given = 1 + noise[0] + 1j * noise[1]
    doubt = Doubt(1.0 + 0j, np.array([0.05, 0.05]), np.full((2, *SHAPE), 0.05, np.float32))
    found = without_noise(given, doubt, 1.0)
    turned = without_noise(given * factor, replace(doubt, mean=complex(factor)), 1.0)
    np.testing.assert_allclose(turned, found * factor, rtol=1e-4)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.complex64


def test_a_stop_while_the_prior_is_tried_keeps_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, done, tried = scan_of(dots(), 1e4), list[float](), list[bool]()
    before = refined(scan, OFF)

    def noticed(canvas: np.ndarray, doubt: Doubt, strength: float) -> np.ndarray:
        tried.append(True)
        return without_noise(canvas, doubt, strength)

    monkeypatch.setattr("ptychopinn_ptychodus.refinement.denoising.without_noise", noticed)
    result = refine(
        scan,
        np.ones(SHAPE, np.complex64),
        scan.probeGuess,
        AUTO,
        on_progress=done.append,
        should_stop=lambda: bool(tried),
        device="cpu",
        quiet=True,
        stages=Stages.NONE,
    )
    assert tried == [True]
    assert result.stopped
    assert not result.denoised
    np.testing.assert_array_equal(result.object, before.object)
    assert done == sorted(done)
