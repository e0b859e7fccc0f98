"""What noise leaves, against simulated noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import xlogy

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.refinement.noise import counts_per_photon, expected_error, least_error


@settings(max_examples=40, deadline=None)
@given(exponent=st.floats(-3, 4), metric=st.sampled_from(["amplitude", "poisson"]), seed=st.integers(0, 99))
def test_expected_error_is_that_of_simulated_counts(exponent: float, metric: str, seed: int) -> None:
    rate = 10.0**exponent
    counts = np.random.default_rng(seed).poisson(rate, 40000).astype(np.float64)
    if metric == "amplitude":
        each = (np.sqrt(counts) - np.sqrt(rate)) ** 2
    else:
        each = 0.5 * (rate - counts + xlogy(counts, counts / rate))
    tolerance = 6 * each.std() / np.sqrt(len(each)) + 1e-4 * rate
    assert float(expected_error(np.array(rate), metric)) == pytest.approx(each.mean(), abs=tolerance)


@settings(max_examples=20, deadline=None)
@given(exponent=st.floats(-3, 3), seed=st.integers(0, 99))
def test_least_error_is_the_variance_of_roots(exponent: float, seed: int) -> None:
    roots = np.sqrt(np.random.default_rng(seed).poisson(10.0**exponent, 40000))
    tolerance = 6 * ((roots - roots.mean()) ** 2).std() / 200 + 1e-4
    assert float(least_error(np.array(10.0**exponent))) == pytest.approx(roots.var(), abs=tolerance)


def test_expected_error_of_many_photons_is_a_quarter_a_pixel() -> None:
    for metric in ("amplitude", "poisson"):
        assert expected_error(np.full(3, 1e6), metric) == pytest.approx(0.25, rel=1e-5)
        assert expected_error(np.zeros(3), metric) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("gain", [0.01, 20.0])
def test_counts_per_photon_are_told_from_the_patterns(scan: RawData, gain: float) -> None:
    assert counts_per_photon(scan.diff3d * np.sqrt(gain), scan.bad_pixels) == pytest.approx(gain, rel=0.4)


def test_photons_are_taken_for_photons(scan: RawData) -> None:
    assert counts_per_photon(scan.diff3d, scan.bad_pixels) == 1.0


def test_noise_is_not_told_from_an_exit_wave_that_fills_the_field() -> None:
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(20, 64, 64)) + 1j * rng.normal(size=(20, 64, 64))
    amplitude = np.abs(np.fft.fft2(waves, norm="ortho")) * 100
    # speckle of single pixels looks like noise of any kind: its own figure, or none, but no more than it is
    assert counts_per_photon(amplitude, np.zeros((64, 64), bool)) <= float((amplitude**4).mean()) / float(
        (amplitude**2).mean()
    )
