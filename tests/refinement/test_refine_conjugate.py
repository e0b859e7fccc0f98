"""The complex conjugate of a probe is taken where the probe explains little, and that is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from refinement_support import correlation, displaced

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement import RefinementConfig, pupil
from ptychopinn_ptychodus.refinement.chosen_start import Start, better_start
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine

N = 64
SIZE = 132
CONFIG = RefinementConfig(epochs=6)


def lens(defocus: float, coma: float = 0.0) -> np.ndarray:
    """A lens' probe, (N, N), with phases at its rim in rad."""
    f = np.fft.fftfreq(N) / 0.22
    y, x = f[:, None], f[None, :]
    radius = np.hypot(x, y)
    phase = defocus * radius**2 + coma * x * radius**2
    centre = np.where(np.add.outer(np.arange(N), np.arange(N)) % 2, -1.0, 1.0)
    return np.fft.ifft2(0.5 * (1 - np.tanh((radius - 1) * 6)) * np.exp(1j * phase) * centre)


def turned(probe: np.ndarray) -> np.ndarray:
    """By 180 degrees, about pixel N/2."""
    return np.roll(np.flip(probe, (-2, -1)), 1, (-2, -1))


def scan_of(probe: np.ndarray) -> RawData:
    x, y = raster_positions(13, 13, 5.0, jitter=0.5, origin=36.0, seed=2)
    return simulate_scan(make_object((SIZE, SIZE), seed=4), probe, x, y, photons=1e6, seed=3)


@pytest.fixture(scope="module")
def scan() -> RawData:
    """A strong object under a lens that is 6 rad from its focus."""
    return scan_of(lens(6.0))


def refined(scan: RawData, probe: np.ndarray, config: RefinementConfig = CONFIG) -> Refined:
    return refine(scan, np.ones((SIZE, SIZE), np.complex64), probe, config, device="cpu", quiet=True)


@pytest.mark.parametrize("defocus", [-6.0, -7.2])
def test_a_probe_on_the_other_side_of_the_focus_is_found(scan: RawData, defocus: float) -> None:
    found = refined(scan, lens(defocus))
    assert found.conjugated
    assert correlation(found.object, scan) > 0.99
    assert found.error < 0.05 * found.start_error


def test_of_aberrations_the_even_ones_may_change_alone() -> None:
    """As they do on the other side of the focus; with wrong signs of the positions all of them do."""
    scan = scan_of(lens(6.0, coma=3.0))
    found = refined(scan, lens(-6.0, coma=3.0))
    assert found.conjugated
    assert correlation(found.object, scan) > 0.99


@pytest.mark.parametrize("coma", [0.0, 3.0])
def test_positions_of_the_wrong_signs_fit_an_object_that_is_turned_and_conjugated(coma: float) -> None:
    """That is what the warning says, for they cannot be told from the other."""
    scan = scan_of(lens(6.0, coma))
    # about the middle of the object, whose pixels are symmetrical to it
    middle = (SIZE - 1) / 2
    where = np.stack((scan.xcoords, scan.ycoords), -1)
    wrong = displaced(scan, 2 * (middle - where))
    found = refined(wrong, scan.probeGuess)
    assert found.conjugated
    assert correlation(np.conj(found.object[::-1, ::-1]), scan) > 0.99


def test_an_object_that_was_made_with_the_wrong_probe_is_not_gone_on_from(scan: RawData) -> None:
    probe = lens(-6.0)
    config = RefinementConfig(epochs=10, probe=False)
    flat = np.ones((SIZE, SIZE), np.complex64)
    spoilt = refine(scan, flat, probe, config, device="cpu", quiet=True).object
    assert correlation(spoilt, scan) < 0.7
    found = refine(scan, spoilt, probe, CONFIG, device="cpu", quiet=True)
    # the probe's scale, which the start's object has a part in, is all that differs
    np.testing.assert_allclose(found.history[1:], refined(scan, probe).history[1:], rtol=0.1)
    assert correlation(found.object, scan) > 0.99


@pytest.mark.parametrize("defocus", [6.0, 7.2, 4.8])
def test_a_right_probe_and_one_off_focus_are_not_conjugated(scan: RawData, defocus: float) -> None:
    found = refined(scan, lens(defocus))
    assert not found.conjugated
    assert correlation(found.object, scan) > 0.99


def test_a_probe_that_is_not_to_be_refined_is_not_conjugated(scan: RawData) -> None:
    given = lens(-6.0)
    found = refined(scan, given, RefinementConfig(epochs=3, probe=False))
    assert not found.conjugated
    assert abs(np.vdot(found.probe[0], given)) > 0.999 * np.linalg.norm(found.probe) * np.linalg.norm(given)


def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many conjugates each look for them finds, in a list that grows."""
    counts: list[int] = []
    conjugates = pupil._Bench._conjugates

    def counted(self: pupil._Bench, spectrum: NDArray[np.complex64]) -> list[NDArray[np.complex64]]:
        found = conjugates(self, spectrum)
        counts.append(len(found))
        return found

    monkeypatch.setattr(pupil._Bench, "_conjugates", counted)
    return counts


def test_it_is_not_tried_where_the_probe_explains_the_patterns(
    scan: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tried(monkeypatch)
    refined(scan, lens(6.0))
    assert counts == []
    refined(scan, lens(-6.0))
    assert counts == [1]


@pytest.mark.parametrize("is_real", [True, False])
def test_a_probe_that_equals_its_own_conjugate_has_none(
    is_real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real ones do, and those whose pupil is: far from noise, chance would choose between the two."""
    soft = make_probe(N)
    probe = np.abs(soft) * (1.0 + 0.0j)
    if not is_real:  # its far field is real where the even part is real and the odd part imaginary
        ramp = (np.arange(N) - N // 2) / N
        probe = probe + turned(probe) + 2j * ramp * np.abs(probe + turned(probe))
    scan = scan_of(probe)
    counts = tried(monkeypatch)
    by = 3.0 * np.random.default_rng(1).normal(size=(len(scan), 2))
    found = refined(displaced(scan, by), scan.probeGuess * math.sqrt(2))
    assert counts
    assert set(counts) == {0}
    assert not found.conjugated


@pytest.mark.parametrize("defocus", [6.0, -6.0])
def test_what_a_network_made_with_the_conjugate_is_told_as_well(scan: RawData, defocus: float) -> None:
    """Its training found the probe, so that a refinement that starts from there has nothing to turn."""
    given = scan.select(slice(None))
    given.probeGuess = lens(defocus)[None].astype(np.complex64)
    assert scan.objectGuess is not None
    network = Start(1 + 0.9 * (scan.objectGuess - 1), scan.probeGuess)
    start = better_start(given, network, CONFIG, device="cpu", should_stop=lambda: False)
    assert start.object is network.object
    assert start.probe is network.probe
    assert start.conjugated == (defocus < 0)
