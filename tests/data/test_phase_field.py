"""The large-scale phase of an object, corrected by where its patterns lie."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.backends.base import Prediction
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.phase_field import PhaseEquations, with_phase_of_patterns
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import extract_patches, make_object, simulate_scan

N = 64


def waves(shape: tuple[int, int], size: float = 0.8) -> np.ndarray:
    """A phase, rad, of waves about as long as an object is wide."""
    row, column = np.indices(shape)
    phase: np.ndarray = size * np.sin(2 * np.pi * column / 150 + 0.4) * np.cos(2 * np.pi * row / 170 + 1.1)
    return phase


def corrected(scan: RawData, object_: np.ndarray, amplitude: np.ndarray | None = None) -> np.ndarray:
    coords = np.stack((scan.xcoords, scan.ycoords), -1)
    measured = scan.diff3d if amplitude is None else amplitude.astype(np.float32)
    found: np.ndarray = with_phase_of_patterns(
        object_.astype(np.complex64), scan.probeGuess, measured, coords, scan.bad_pixels
    )
    return found


def likeness(scan: RawData, object_: np.ndarray, truth: np.ndarray) -> float:
    """Correlation after a ramp and a constant are taken off."""
    mask = metrics.illumination_mask(scan.probeGuess, scan.xcoords, scan.ycoords, truth.shape)
    return metrics.compare(object_, truth, mask).complex_correlation_centred


def test_long_waves_of_phase_are_taken_off(scan: RawData, obj: np.ndarray) -> None:
    spoilt = obj * np.exp(1j * waves(obj.shape))
    found = corrected(scan, spoilt)
    assert found.dtype == np.complex64
    assert likeness(scan, spoilt, obj) < 0.8
    assert likeness(scan, found, obj) > 0.99
    np.testing.assert_allclose(np.abs(found), np.abs(spoilt), rtol=1e-5)


def test_an_even_gradient_is_taken_off_as_it_is(scan: RawData, obj: np.ndarray) -> None:
    row, column = np.indices(obj.shape)
    found = corrected(scan, obj * np.exp(1j * (0.01 * column - 0.02 * row)))
    mask = metrics.illumination_mask(scan.probeGuess, scan.xcoords, scan.ycoords, obj.shape)
    # a ramp would be taken off by a comparison that allows for one
    rest = (found * obj.conj())[mask]
    assert np.abs(rest.sum()) > 0.999 * np.abs(rest).sum()


def test_what_explains_its_patterns_stays_as_it_is(scan: RawData, obj: np.ndarray) -> None:
    given = obj.astype(np.complex64)
    coords = np.stack((scan.xcoords, scan.ycoords), -1)
    assert with_phase_of_patterns(given, scan.probeGuess, scan.diff3d, coords, scan.bad_pixels) is given


def test_an_object_that_is_far_off_stays_as_it_is(scan: RawData, obj: np.ndarray) -> None:
    """As of a network that has hardly learnt: patterns lie elsewhere for all but a smooth phase."""
    other = (make_object(obj.shape, seed=9) * np.exp(1j * waves(obj.shape))).astype(np.complex64)
    coords = np.stack((scan.xcoords, scan.ycoords), -1)
    assert with_phase_of_patterns(other, scan.probeGuess, scan.diff3d, coords, scan.bad_pixels) is other


def test_patterns_of_something_else_do_not_count(scan: RawData, obj: np.ndarray) -> None:
    """Those that are in no group may be broken ones."""
    broken = np.arange(len(scan.diff3d)) % 3 == 1
    amplitude = np.where(broken[:, None, None], np.roll(scan.diff3d, 5, axis=2), scan.diff3d)
    coords = np.stack((scan.xcoords, scan.ycoords), -1)
    spoilt = (obj * np.exp(1j * waves(obj.shape))).astype(np.complex64)
    found = with_phase_of_patterns(
        spoilt, scan.probeGuess, amplitude, coords, scan.bad_pixels, np.flatnonzero(~broken)
    )
    assert likeness(scan, found, obj) > 0.99


@pytest.mark.parametrize("fault", ["dark", "flicker", "hot"])
def test_what_the_detector_does_moves_nothing(scan: RawData, obj: np.ndarray, fault: str) -> None:
    """Patterns without light, a beam that fluctuates, and bad pixels, whatever was recorded there."""
    amplitude = scan.diff3d.astype(np.float32)
    bad = np.zeros((N, N), bool)
    if fault == "dark":
        amplitude[::7] = 0.0
    elif fault == "flicker":
        amplitude *= np.random.default_rng(0).uniform(0.6, 1.4, (len(amplitude), 1, 1))
    else:
        bad[30:34, 36:40] = True
        amplitude[:, bad] = 10 * amplitude.max()
    coords = np.stack((scan.xcoords, scan.ycoords), -1)
    spoilt = (obj * np.exp(1j * waves(obj.shape))).astype(np.complex64)
    found = with_phase_of_patterns(spoilt, scan.probeGuess, amplitude, coords, bad)
    assert likeness(scan, found, obj) > 0.99


def test_the_adjoint_is_that_of_the_gradients(probe: np.ndarray) -> None:
    """With another one, the solver comes to a phase as well, and nobody would see that it is not the best."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(36.0, (160.0, 140.0), (60, 2)).T
    x[:20], y[:20] = x[0] + rng.random(20), y[0] + rng.random(20)  # a crowd, whose patterns are worth less
    equations = PhaseEquations(probe, x, y, (180, 200), 20.0)
    operator = equations.operator(rng.random(60) < 0.8)
    gradients, unknowns = (rng.normal(size=size) for size in operator.shape)
    forward = gradients @ operator.matvec(unknowns)
    assert abs(forward) > 1e-3 * np.linalg.norm(operator.matvec(unknowns))
    assert unknowns @ operator.rmatvec(gradients) == pytest.approx(forward, rel=1e-9)


def test_without_any_light_nothing_is_known(scan: RawData, obj: np.ndarray) -> None:
    spoilt = obj * np.exp(1j * waves(obj.shape))
    np.testing.assert_array_equal(
        corrected(scan, spoilt, np.zeros_like(scan.diff3d)), spoilt.astype(np.complex64)
    )


def test_patches_of_groups_are_corrected_as_they_are_stitched(
    probe: np.ndarray, positions: tuple[np.ndarray, np.ndarray]
) -> None:
    """As of a network that gets two thirds of the phase's gradient in each group."""
    truth = np.exp(1j * waves((180, 200), 2.0)) * make_object((180, 200), seed=3)
    scan = simulate_scan(truth.astype(np.complex64), probe, *positions, photons=1e5, seed=0)
    groups = scan.generate_grouped_data(N, 8, None, gridsize=2, seed=0)
    weaker = truth * np.exp(-0.7j * waves((180, 200), 2.0))
    x, y = groups.coords[groups.nn_indices.ravel()].T
    patches = extract_patches(weaker, x, y, N).reshape(len(groups), 4, N, N)
    turned = np.exp(2j * np.pi * np.random.default_rng(0).random((len(groups), 1, 1, 1)))
    prediction = Prediction((patches * turned).astype(np.complex64), scan.probeGuess)
    placed = prediction.stitch(groups, truth.shape).object
    assert likeness(scan, weaker, truth) < 0.9
    assert likeness(scan, placed, truth) > 0.99
    cropped = prediction.stitch(groups)
    coords = np.stack((scan.xcoords, scan.ycoords), -1) - cropped.origin
    again = with_phase_of_patterns(cropped.object, scan.probeGuess, groups.amplitude, coords, scan.bad_pixels)
    assert again is cropped.object
