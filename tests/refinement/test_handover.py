"""A refinement starts from what a network has found, unless that is no start."""

from __future__ import annotations

import numpy as np
import pytest
from refinement_support import made_scan

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.refinement.handover import Start, better_start


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


def test_what_is_of_no_use_is_refused(dim: RawData) -> None:
    with pytest.raises(ValueError, match="not finite"):
        chosen(dim, Start(np.full_like(nearly_right(dim).object, np.nan), dim.probeGuess))
