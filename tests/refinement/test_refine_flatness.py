"""A refined object is flat on the whole: the ramp that no pattern determines goes to the probe."""

from __future__ import annotations

import numpy as np
import pytest
from refinement_support import correlation

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine

CONFIG = RefinementConfig(epochs=10)
SLOPES = (0.04, -0.025)  # rad per pixel, rows and columns


def ramp(shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.exp(1j * (SLOPES[0] * rows + SLOPES[1] * columns)).astype(np.complex64)


def slopes(image: np.ndarray) -> np.ndarray:
    inside = image[30:-30, 30:-30]
    return np.angle([np.vdot(inside[:-1], inside[1:]), np.vdot(inside[:, :-1], inside[:, 1:])])


@pytest.fixture(scope="module")
def results(scan: RawData, flat: np.ndarray) -> list[Refined]:
    """From flat object and true probe, and from the same exit waves with a ramp on the object."""
    tilted = scan.probeGuess * ramp(scan.probeGuess.shape[-2:]).conj()
    starts = ((flat, scan.probeGuess), (flat * ramp(flat.shape), tilted))
    return [refine(scan, object_, probe, CONFIG, device="cpu") for object_, probe in starts]


def test_whatever_ramp_it_starts_with_the_object_comes_out_flat(results: list[Refined]) -> None:
    for result in results:
        np.testing.assert_allclose(slopes(result.object), 0.0, atol=1e-3)
        phase = np.angle(result.object[30:-30, 30:-30].mean())
        assert phase == pytest.approx(0.0, abs=0.05)


def test_it_explains_the_data_as_well(results: list[Refined], scan: RawData) -> None:
    plain, tilted = results
    assert tilted.error == pytest.approx(plain.error, rel=0.03)
    assert correlation(tilted.object, scan) == pytest.approx(correlation(plain.object, scan), abs=0.003)
    again = refine(
        scan, tilted.object, tilted.probe, RefinementConfig(epochs=0, positions=False), device="cpu"
    )
    assert again.error == pytest.approx(tilted.error, rel=0.03)  # but for the refined positions


def test_a_probe_that_is_kept_keeps_its_ramp(scan: RawData, flat: np.ndarray) -> None:
    tilted = scan.probeGuess * ramp(scan.probeGuess.shape[-2:]).conj()
    config = RefinementConfig(epochs=3, probe=False)
    result = refine(scan, flat * ramp(flat.shape), tilted, config, device="cpu")
    np.testing.assert_allclose(slopes(result.object), SLOPES, atol=5e-3)
    factor = np.vdot(tilted, result.probe) / np.vdot(tilted, tilted)
    np.testing.assert_allclose(result.probe, factor * tilted, atol=1e-4 * np.abs(result.probe).max())
