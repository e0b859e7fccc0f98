"""`auto` follows the likelihood where nothing but photon noise is left, and amplitudes where more is."""

from __future__ import annotations

import numpy as np
import pytest
from refinement_support import as_found, correlation, made_scan, with_patterns

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine


@pytest.fixture(scope="module")
def dim() -> RawData:
    """A scan of a few counts in the brightest pixels."""
    return made_scan(photons=1e4, seed=21)


def refined(scan: RawData, flat: np.ndarray, metric: str) -> Refined:
    return refine(scan, flat, scan.probeGuess, RefinementConfig(epochs=10, metric=metric), device="cpu")


def test_few_counts_are_fitted_by_their_likelihood(dim: RawData, flat: np.ndarray) -> None:
    automatic, amplitude = (refined(dim, flat, metric) for metric in ("auto", "amplitude"))
    assert correlation(automatic.object, dim) > correlation(amplitude.object, dim) + 0.005
    # amplitudes that fit best have less light than the patterns; the likelihood's have as much
    light = {
        one: float((np.abs(result.probe) ** 2).sum())
        for one, result in (("auto", automatic), ("amplitude", amplitude))
    }
    assert light["auto"] > light["amplitude"]


def test_what_the_model_does_not_know_is_left_to_amplitudes(scan: RawData, flat: np.ndarray) -> None:
    haze = np.linspace(0.0, 200.0, scan.N)  # scattered light, more on one side
    patterns = np.sqrt(scan.diff3d**2 + haze)
    foggy = with_patterns(scan, patterns.astype(np.float32))
    automatic, amplitude = (refined(foggy, flat, metric) for metric in ("auto", "amplitude"))
    np.testing.assert_array_equal(automatic.object, amplitude.object)
    np.testing.assert_array_equal(automatic.probe, amplitude.probe)


def test_a_result_of_the_likelihood_is_a_start_that_is_kept_or_bettered(
    dim: RawData, flat: np.ndarray
) -> None:
    first = refined(dim, flat, "amplitude")
    again = refine(as_found(dim, first), first.object, first.probe, RefinementConfig(epochs=6), device="cpu")
    # less error of amplitudes is not to be had, but a likelier object is
    assert correlation(again.object, dim) > correlation(first.object, dim)
    assert again.error > again.start_error
    assert not again.kept_start


def test_a_start_that_nothing_betters_is_told_to_be_kept(scan: RawData, flat: np.ndarray) -> None:
    haze = np.linspace(0.0, 200.0, scan.N)  # no estimate comes near the noise
    foggy = with_patterns(scan, np.sqrt(scan.diff3d**2 + haze).astype(np.float32))
    best = refined(foggy, flat, "amplitude")
    wild = RefinementConfig(epochs=2, metric="amplitude", object_step=1.0, momentum=0.99)
    found = refine(as_found(foggy, best), best.object, best.probe, wild, device="cpu")
    assert found.kept_start
    assert found.error == found.start_error
