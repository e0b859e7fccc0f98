"""How bright the beam was: for each scan by itself, whatever is hidden, broken or drifting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.raw import RawData

N = 64
PHOTONS = 1e5


def counts_of(scan: RawData) -> np.ndarray:
    return np.rint(scan.diff3d.astype(np.float64) ** 2)


def with_counts(scan: RawData, counts: np.ndarray, **changes: Any) -> RawData:
    fields = {name: getattr(scan, name) for name in ("xcoords", "ycoords", "probeGuess", "bad_pixels")}
    return RawData(**{**fields, "diff3d": counts, "domain": "counts", **changes})


def disk(radius: float) -> np.ndarray:
    axis = np.arange(N) - N / 2
    return axis[:, None] ** 2 + axis**2 <= radius**2


def hiding(counts: np.ndarray, part: float) -> np.ndarray:
    """The smallest central disk that hides so much of the light."""
    mean = counts.mean(0)
    return next(disk(r) for r in np.arange(1, N, 0.25) if mean[disk(r)].sum() >= part * mean.sum())


@pytest.fixture(scope="module")
def scans() -> dict[str, RawData]:
    """Scans of strong objects; their light falls on a part of the detector that no hole of the mean hides."""
    x, y = simulation.raster_positions(12, 12, 5.0, jitter=0.3, origin=40.0, seed=7)
    made = {}
    for seed, kind in enumerate(("mixed", "mixed")):
        probe = simulation.make_probe(N, defocus=6.0 + 4 * seed, diameter=0.45)
        object_ = simulation.make_object((140, 140), kind, seed=20 + seed)
        made[f"{kind}{seed}"] = simulation.simulate_scan(object_, probe, x, y, PHOTONS, seed=30 + seed)
    return made


def test_photons_of_a_sound_scan_are_the_mean_of_its_sums(scan: RawData) -> None:
    assert scan.photons_per_pattern == pytest.approx(counts_of(scan).sum((1, 2)).mean(), rel=1e-5)
    np.testing.assert_allclose(scan.incident_photons, scan.photons_per_pattern)
    container = scan.generate_grouped_data(N, 4, None)
    assert container.input_scale == pytest.approx(N / 2 / np.sqrt(scan.photons_per_pattern), rel=1e-6)


@pytest.mark.parametrize(("part", "within"), [(0.27, 0.03), (0.6, 0.06), (0.88, 0.2)])
def test_hidden_photons_count(scans: dict[str, RawData], part: float, within: float) -> None:
    """Within 20 % in photons is within 10 % in amplitude."""
    for scan in scans.values():
        counts = counts_of(scan)
        bad = hiding(counts, part)
        hidden = with_counts(scan, np.where(bad, 0, counts), bad_pixels=bad)
        assert hidden.photons_per_pattern == pytest.approx(scan.photons_per_pattern, rel=within)


def test_the_probe_that_tells_of_hidden_photons_may_be_wrong(scans: dict[str, RawData]) -> None:
    for scan in scans.values():
        counts = counts_of(scan)
        bad = hiding(counts, 0.27)
        field = np.fft.fft2(scan.probeGuess)
        frequency = np.fft.fftfreq(N)
        focus = np.exp(30j * (frequency[:, None] ** 2 + frequency**2))
        probe = 1e4 * np.fft.ifft2(field * focus)
        hidden = with_counts(scan, np.where(bad, 0, counts), bad_pixels=bad, probeGuess=probe)
        assert hidden.photons_per_pattern == pytest.approx(scan.photons_per_pattern, rel=0.03)


def test_gaps_and_single_bad_pixels_are_filled_in(scans: dict[str, RawData]) -> None:
    for scan in scans.values():
        counts, bad = counts_of(scan), np.zeros((N, N), bool)
        bad[30:33] = bad[:, 40:42] = bad[5, 5] = True
        hidden = with_counts(scan, np.where(bad, 60000, counts), bad_pixels=bad)
        assert counts[:, bad].sum() > 0.05 * counts.sum()
        assert hidden.photons_per_pattern == pytest.approx(scan.photons_per_pattern, rel=0.01)


def test_broken_frames_do_not_set_the_scale(scan: RawData) -> None:
    counts = counts_of(scan)
    counts[::12] = 0
    counts[[7, 100]] = 3000
    broken = with_counts(scan, counts)
    assert counts.sum((1, 2)).mean() > 1.5 * scan.photons_per_pattern
    assert broken.photons_per_pattern == pytest.approx(scan.photons_per_pattern, rel=0.02)


def test_each_scan_has_a_brightness_of_its_own(scan: RawData) -> None:
    counts = counts_of(scan)
    rng = np.random.default_rng(1)
    both = with_counts(
        scan,
        np.concatenate([counts, rng.binomial(counts.astype(int), 0.1)]),
        xcoords=np.tile(scan.xcoords, 2),
        ycoords=np.tile(scan.ycoords, 2),
        scan_index=np.repeat([4, 9], len(counts)),
    )
    bright, dim = both.incident_photons[: len(counts)], both.incident_photons[len(counts) :]
    np.testing.assert_allclose(bright, scan.photons_per_pattern, rtol=1e-5)
    np.testing.assert_allclose(dim, 0.1 * scan.photons_per_pattern, rtol=1e-2)
    container = both.generate_grouped_data(N, 8, None, gridsize=2, seed=0)
    energies = (container.normalised(slice(None), container.input_scale) ** 2).sum((1, 2))
    assert energies[: len(counts)].mean() == pytest.approx(N**2 / 4, rel=0.02)
    assert energies[len(counts) :].mean() == pytest.approx(N**2 / 4, rel=0.02)


def drifting(scan: RawData) -> tuple[RawData, np.ndarray]:
    """The scan with a beam that has lost two thirds at the end, and says so in a unit of its own."""
    drift = np.linspace(1.0, 1 / 3, len(scan))
    return with_counts(
        scan, scan.diff3d.astype(np.float64) ** 2 * drift[:, None, None], exposures=5e7 * drift
    ), drift


def test_a_beam_that_drifts_as_the_data_say_makes_no_difference(scan: RawData) -> None:
    drifted, drift = drifting(scan)
    assert drifted.exposures == pytest.approx(drift / drift.mean())
    assert drifted.photons_per_pattern == pytest.approx(scan.photons_per_pattern * drift.mean(), rel=1e-5)
    steady, other = (raw.generate_grouped_data(N, 4, None) for raw in (scan, drifted))
    seen, expected = (data.normalised(slice(None), data.input_scale) for data in (other, steady))
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    relative = other.exposures_for([0, len(scan) - 1], other.input_scale)
    assert relative is not None
    assert relative[:, 0] == pytest.approx([1 / drift.mean(), 1 / 3 / drift.mean()], rel=1e-5)
    assert steady.exposures_for([0], steady.input_scale) is None


def test_exposures_reach_files_parts_and_processes(scan: RawData, tmp_path: Path) -> None:
    drifted, _ = drifting(scan)
    drifted.to_file(tmp_path / "scan.npz")
    np.testing.assert_allclose(RawData.from_file(tmp_path / "scan.npz").exposures, drifted.exposures)
    drifted.to_directory(tmp_path / "scan")
    np.testing.assert_array_equal(RawData.from_directory(tmp_path / "scan").exposures, drifted.exposures)
    scan.to_file(tmp_path / "steady.npz")
    with np.load(tmp_path / "steady.npz") as file:
        assert "exposures" not in file.files
    train, test = drifted.split(0.2, 0)
    assert test is not None
    for part in (train, test, drifted.subsample(20, 0), drifted.select(slice(3, 9))):
        # of the whole scan, which a part that happens to be dark does not know
        places = [np.flatnonzero(drifted.xcoords == x)[0] for x in part.xcoords]
        np.testing.assert_array_equal(part.exposures, drifted.exposures[places])
        np.testing.assert_array_equal(part.incident_photons, drifted.incident_photons[places])


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [1, 1, 0, 1, 1], [1, 1, np.nan, 1, 1], [1, 1, -1, 1, 1]])
def test_exposures_that_cannot_be_are_refused(fields: dict[str, Any], wrong: list[float]) -> None:
    with pytest.raises(ValueError, match=r"exposures .*: give"):
        RawData(**fields, exposures=wrong)


@settings(max_examples=15, deadline=None)
@given(exponent=st.floats(-14, 12), hidden=st.booleans())
def test_the_unit_of_the_patterns_is_that_of_the_photons(exponent: float, hidden: bool) -> None:
    """Σ|P|² follows the counts, and what a model sees does not."""
    axis = np.arange(N) - N / 2
    beam = np.exp(-(axis[:, None] ** 2 + axis**2) / 50)
    counts = np.random.default_rng(0).poisson(30 * beam, (5, N, N)).astype(np.float64)
    fields: dict[str, Any] = {
        "xcoords": np.linspace(40, 50, 5),
        "ycoords": np.linspace(42, 47, 5),
        "probeGuess": simulation.make_probe(N),
        "bad_pixels": disk(2) if hidden else None,
        "domain": "counts",
    }
    unit = 10.0**exponent
    one, other = (RawData(**fields, diff3d=counts * factor) for factor in (1.0, unit))
    assert other.photons_per_pattern == pytest.approx(unit * one.photons_per_pattern, rel=1e-4)
    first, second = (raw.generate_grouped_data(N, 4, None) for raw in (one, other))
    expected = first.normalised(slice(None), first.input_scale)
    for scale in (second.input_scale, first.input_scale):  # of a model of the same, or of other brightness
        np.testing.assert_allclose(second.normalised(slice(None), scale), expected, rtol=1e-4, atol=1e-4)
