"""The probe of a scan is found before a network learns with it, or before one for any probe is applied."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from refinement_support import made_scan

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.refinement.scan_probe import better_probe, found_probe


def having(scan: RawData, **changes: np.ndarray) -> RawData:
    """The scan with other arrays."""
    arrays = {name: getattr(scan, name) for name in ("xcoords", "ycoords", "diff3d", "probeGuess")}
    return RawData(**{**arrays, **changes}, domain="amplitude")


def find(scan: RawData, modes: int, *, stops: bool = False) -> np.ndarray | None:
    told: list[float] = []
    found = found_probe(scan, modes, device="cpu", should_stop=lambda: stops, on_progress=told.append)
    assert told == sorted(told)
    assert found is None or told[-1] == pytest.approx(1.0)
    return found


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of first modes, wherever they are."""
    product = np.fft.ifft2(np.fft.fft2(one[0]) * np.conj(np.fft.fft2(other[0])))
    return float(np.abs(product).max() / np.linalg.norm(one[0]) / np.linalg.norm(other[0]))


@pytest.fixture(scope="module")
def coherent() -> RawData:
    return made_scan(photons=1e6, seed=1)


def out_of_focus(probe: np.ndarray) -> np.ndarray:
    frequency = np.fft.fftfreq(probe.shape[-1])
    return np.fft.ifft2(np.fft.fft2(probe) * np.exp(60j * (frequency[:, None] ** 2 + frequency**2)))


def test_a_probe_out_of_focus_is_found_and_modes_that_explain_nothing_are_left_out(
    coherent: RawData,
) -> None:
    wrong = out_of_focus(coherent.probeGuess)
    # wherever the scan has its origin, and whatever object it brings
    found = find(having(coherent, probeGuess=wrong, xcoords=coherent.xcoords - 200.0), 3)
    assert found is not None
    assert found.shape == (1, 64, 64)
    assert likeness(found, coherent.probeGuess) > 0.99 > likeness(wrong, coherent.probeGuess) + 0.02
    assert (np.abs(found) ** 2).sum() == pytest.approx(coherent.photons_per_pattern, rel=0.1)


def test_modes_that_explain_something_are_kept() -> None:
    x, y = raster_positions(11, 11, 5.0, jitter=0.3, origin=30.0, seed=1)
    scan = simulate_scan(make_object((114, 114), seed=2), make_probe(64, modes=2), x, y, 1e6, seed=3)
    found = find(having(scan, probeGuess=scan.probeGuess[:1]), 2)
    assert found is not None
    assert len(found) == 2


def test_of_several_scans_the_largest_counts(coherent: RawData) -> None:
    other = np.random.default_rng(0).permutation(coherent.diff3d[:30].ravel()).reshape(30, 64, 64)
    both = RawData(
        xcoords=np.concatenate((coherent.xcoords[:30], coherent.xcoords)),
        ycoords=np.concatenate((coherent.ycoords[:30], coherent.ycoords)),
        diff3d=np.concatenate((other, coherent.diff3d)),
        probeGuess=coherent.probeGuess,
        scan_index=np.repeat((0, 1), (30, coherent.n_patterns)),
        domain="amplitude",
    )
    found = find(both, 1)
    assert found is not None
    assert likeness(found, coherent.probeGuess) > 0.999


@pytest.mark.parametrize("what", ["no overlap", "few patterns", "asked to stop"])
def test_without_what_tells_a_probe_there_is_none(coherent: RawData, what: str) -> None:
    scan = coherent
    if what == "no overlap":
        scan = having(coherent, xcoords=12 * coherent.xcoords, ycoords=12 * coherent.ycoords)
    elif what == "few patterns":
        scan = coherent.select(np.arange(20))
    assert find(scan, 1, stops=what == "asked to stop") is None


def test_a_network_is_applied_with_a_probe_that_explains_the_patterns(
    coherent: RawData, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[float] = []
    wrong = out_of_focus(coherent.probeGuess)
    with caplog.at_level(logging.INFO):
        found = better_probe(
            having(coherent, probeGuess=wrong),
            1,
            device="cpu",
            should_stop=lambda: False,
            on_progress=told.append,
        )
    assert found is not None
    assert likeness(found, coherent.probeGuess) > 0.99 > likeness(wrong, coherent.probeGuess) + 0.02
    assert "applied with a probe that was found from 169 patterns" in caplog.text
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("what", "said"),
    [("right", "explains its patterns"), ("no overlap", "hardly overlap"), ("asked to stop", "")],
)
def test_a_probe_that_is_right_or_cannot_be_told_is_used_as_it_is(
    coherent: RawData, caplog: pytest.LogCaptureFixture, what: str, said: str
) -> None:
    scan = coherent
    if what == "no overlap":
        scan = having(coherent, xcoords=12 * coherent.xcoords, ycoords=12 * coherent.ycoords)
    with caplog.at_level(logging.INFO):
        found = better_probe(scan, 3, device="cpu", should_stop=lambda: what == "asked to stop")
    assert found is None
    assert said in caplog.text
    assert "was found" not in caplog.text
