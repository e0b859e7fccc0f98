"""A refinement starts from what a network has found, or from what is given, unless that is no start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refinement_support import correlation, made_scan, with_patterns
from scipy import ndimage

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.chosen_start import FLAT, OBJECT, Start, better_start, chosen_start
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages


@pytest.fixture(scope="module")
def dim() -> RawData:
    return made_scan(photons=3e4, seed=5)


def chosen(scan: RawData, network: Start, *, stops: bool = False, **changes: object) -> Start:
    config = RefinementConfig(**changes)  # type: ignore[arg-type]
    return better_start(scan, network, config, device="cpu", should_stop=lambda: stops)


def nearly_right(scan: RawData) -> Start:
    """The truth, blurred as a network's object is, which does not fit the noise."""
    assert scan.objectGuess is not None
    return Start(1 + 0.9 * (scan.objectGuess - 1), scan.probeGuess)


def spoilt(probe: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=probe.shape) + 1j * rng.normal(size=probe.shape)
    return (probe + 0.3 * np.abs(probe).max() * noise).astype(np.complex64)


def test_a_network_that_has_found_something_is_the_start(dim: RawData) -> None:
    network = nearly_right(dim)
    assert chosen(dim, network) is network


def test_a_spoilt_probe_and_its_object_are_not(dim: RawData) -> None:
    network = Start(nearly_right(dim).object, spoilt(dim.probeGuess))
    start = chosen(dim, network)
    np.testing.assert_array_equal(start.object, 1)
    np.testing.assert_array_equal(start.probe, dim.probeGuess)
    assert chosen(dim, network, probe=False) is network  # which is to stay as the network has it
    assert chosen(dim, network, epochs=0) is network
    assert chosen(dim, network, stops=True) is network


def followed(scan: RawData, rounds: int) -> np.ndarray:
    """What steps towards single patterns arrive at (ePIE), with nothing to hold the object; whole pixels."""
    assert scan.objectGuess is not None
    found = np.ones(scan.objectGuess.shape, complex)
    probe = scan.probeGuess[0]
    for _ in range(rounds):
        for x, y, root in zip(scan.xcoords, scan.ycoords, scan.diff3d, strict=True):
            top, left = (round(v - (scan.N - 1) / 2) for v in (y, x))
            patch = found[top : top + scan.N, left : left + scan.N]
            wave = np.fft.fft2(patch * probe, norm="ortho")
            wanted = np.fft.ifftshift(root) * np.exp(1j * np.angle(wave))
            change = np.fft.ifft2(wanted - wave, norm="ortho")
            patch += np.conj(probe) / (np.abs(probe) ** 2).max() * change
    return found


def test_an_object_that_has_fitted_the_noise_is_not() -> None:
    rows, columns = np.indices((6, 6)).reshape(2, -1) * 12 + 31.5
    truth = make_object((124, 124), seed=2)
    scan = simulate_scan(truth, make_probe(64), columns, rows, photons=3e3, seed=3)
    start = chosen(scan, Start(followed(scan, 30), scan.probeGuess))
    np.testing.assert_array_equal(start.object, 1)
    right = Start(truth, scan.probeGuess)
    assert chosen(scan, right) is right


@pytest.fixture(scope="module")
def nearly_noise() -> RawData:
    """Of which an even object leaves nearly nothing but noise."""
    return made_scan(photons=300, seed=1809)


def noisy(scan: RawData) -> Start:
    """The truth beside noise that is half as strong, which is about what a network makes of such scans."""
    assert scan.objectGuess is not None
    white = np.random.default_rng(9).normal(size=(2, *scan.objectGuess.shape))
    real, imaginary = ndimage.gaussian_filter(white, (0, 1, 1))
    noise = (real + 1j * imaginary) / np.sqrt((real**2 + imaginary**2).mean())
    return Start((scan.objectGuess + 0.5 * noise).astype(np.complex64), scan.probeGuess)


def test_where_nearly_all_is_noise_the_object_starts_anew(
    nearly_noise: RawData, caplog: pytest.LogCaptureFixture
) -> None:
    """From the noisy one, the same refinement comes to 0.77."""
    network = noisy(nearly_noise)
    with caplog.at_level("INFO"):
        start = chosen(nearly_noise, network)
    assert "starts from a flat object" in caplog.text
    np.testing.assert_array_equal(start.object, 1)
    config = RefinementConfig()
    stages = Stages.NONE
    result = refine(nearly_noise, start.object, start.probe, config, device="cpu", quiet=True, stages=stages)
    assert correlation(result.object, nearly_noise) > 0.85
    held = chosen(nearly_noise, network, probe=False)
    np.testing.assert_array_equal(held.object, 1)
    assert held.probe is network.probe
    assert chosen(nearly_noise, network, epochs=0) is network
    assert chosen(nearly_noise, network, stops=True) is network


def test_a_spoilt_probe_does_not_go_with_it(nearly_noise: RawData) -> None:
    """Under it, an even object leaves twice as much, and by amplitudes no more than under the scan's own."""
    network = replace(noisy(nearly_noise), probe=spoilt(nearly_noise.probeGuess))
    start = chosen(nearly_noise, network)
    np.testing.assert_array_equal(start.object, 1)
    np.testing.assert_array_equal(start.probe, nearly_noise.probeGuess)


def test_dim_patterns_of_which_much_is_left_keep_the_networks_object() -> None:
    dim = made_scan(photons=300, seed=31)
    haze = np.random.default_rng(0).poisson(np.linspace(0.0, 0.5, 64), dim.diff3d.shape)
    foggy = with_patterns(dim, np.sqrt(dim.diff3d**2 + haze).astype(np.float32))
    network = nearly_right(dim)
    assert chosen(foggy, network).object is network.object


def test_an_object_that_is_given_is_not_either_unless_it_is_asked_for(nearly_noise: RawData) -> None:
    """One that leaves less of the patterns than a flat one, since it was found from them."""
    config = RefinementConfig(metric="poisson", epochs=2, probe=False, positions=False)
    flat = np.ones_like(noisy(nearly_noise).object)
    given = refine(nearly_noise, flat, nearly_noise.probeGuess, config, device="cpu", quiet=True).object
    for wanted, expected in (("auto", FLAT), (OBJECT, OBJECT)):
        start, name = chosen_start(
            nearly_noise, given, nearly_noise.probeGuess, RefinementConfig(), wanted, device="cpu"
        )
        assert name == expected
        assert (start == 1).all() == (expected == FLAT)


def test_what_is_of_no_use_is_refused(dim: RawData) -> None:
    with pytest.raises(ValueError, match="not finite"):
        chosen(dim, Start(np.full_like(nearly_right(dim).object, np.nan), dim.probeGuess))
