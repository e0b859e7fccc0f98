"""Patches that a pattern does not tell from their images, turned by half and conjugated."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ptychopinn_ptychodus.backends.base import Prediction
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.assembly import assemble
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import (
    diffraction_intensity,
    extract_patches,
    make_object,
    make_probe,
    raster_positions,
    simulate_scan,
)
from ptychopinn_ptychodus.data.twins import twin_of_probe

N = 32

Patches = NDArray[np.complex64]


def disk(centre: tuple[float, float]) -> NDArray[np.complex128]:
    """(1, N, N): even, without phase but for a factor; blurred at its edge."""
    rows, columns = np.mgrid[:N, :N]
    inside = np.hypot(rows - centre[0], columns - centre[1]) <= N / 4
    return np.exp(0.4j) * ndimage.gaussian_filter(inside.astype(float), 1.0)[None]


MIDDLE = disk(((N - 1) / 2, (N - 1) / 2))


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param(MIDDLE, id="in the middle"),
        pytest.param(disk((N / 2, N / 2)), id="where a Fourier transform has its zero"),
        pytest.param(disk((13, 18)), id="elsewhere"),
        pytest.param(np.concatenate((MIDDLE, 0.3 * MIDDLE * np.linspace(-1, 1, N))), id="two modes"),
    ],
)
def test_patch_and_twin_give_the_same_pattern_under_a_probe_that_is_its_own(
    probe: NDArray[np.complex128],
) -> None:
    rng = np.random.default_rng(0)
    twin = twin_of_probe(probe)
    assert twin.is_open
    assert twin.likeness == pytest.approx(1)
    patches = rng.normal(size=(3, N, N)) + 1j * rng.normal(size=(3, N, N))
    turned = twin.of(patches)
    expected = diffraction_intensity(patches, probe)
    np.testing.assert_allclose(diffraction_intensity(turned, probe), expected, atol=1e-9)
    np.testing.assert_array_equal(twin.of(turned), patches)
    assert np.abs(turned - patches).max() > 1


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param(make_probe(N), id="out of focus"),
        pytest.param(MIDDLE * np.linspace(0.3, 1, N), id="skew"),
        pytest.param(np.zeros((1, N, N)), id="nothing"),
    ],
)
def test_other_probes_are_not(probe: NDArray[np.complex128]) -> None:
    assert not twin_of_probe(probe).is_open


def scan_with(probe: NDArray[np.complexfloating], step: float = 4.0) -> RawData:
    x, y = raster_positions(9, 8, step, jitter=0.2, origin=24.0, seed=1)
    shape = (int(y.max()) + 26, int(x.max()) + 26)
    return simulate_scan(make_object(shape, "mixed", seed=3), probe, x, y, 1e5, seed=2)


def half_turned(scan: RawData) -> Patches:
    """The true patches, each with a phase of its own, and every other one as its twin."""
    rng = np.random.default_rng(4)
    assert scan.objectGuess is not None
    patches = extract_patches(scan.objectGuess, scan.xcoords, scan.ycoords, N)
    turned = rng.random(len(patches)) < 0.5
    patches[turned] = twin_of_probe(scan.probeGuess).of(patches[turned])
    phases = np.exp(2j * np.pi * rng.random(len(patches)))
    return (patches * phases[:, None, None]).astype(np.complex64)


def stitched(scan: RawData, patches: Patches) -> Patches:
    assert scan.objectGuess is not None
    groups = scan.generate_grouped_data(N, 1, None, gridsize=1, seed=0)
    ordered = patches[groups.nn_indices[:, 0]][:, None]
    return Prediction(ordered, scan.probeGuess).stitch(groups, scan.objectGuess.shape).object


def correlation(scan: RawData, object_: Patches) -> float:
    mask = metrics.illumination_mask(scan.probeGuess, scan.xcoords, scan.ycoords, object_.shape)
    assert scan.objectGuess is not None
    return metrics.compare(object_, scan.objectGuess, mask, max_shift=0).complex_correlation_centred


@pytest.mark.parametrize("centre", [((N - 1) / 2, (N - 1) / 2), (N / 2, N / 2)])
def test_neighbours_choose_patch_or_twin(
    centre: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    scan = scan_with(disk(centre))
    patches = half_turned(scan)
    groups = scan.generate_grouped_data(N, 1, None, gridsize=1, seed=0)
    weight = (np.abs(scan.probeGuess) ** 2).sum(0)
    assert scan.objectGuess is not None
    left = assemble(
        patches[groups.nn_indices[:, 0]][:, None], groups.nn_indices, groups.coords,
        scan.objectGuess.shape, weight,
    ).object  # fmt: skip
    before = patches.copy()
    with caplog.at_level(logging.INFO):
        chosen = stitched(scan, patches)
    assert correlation(scan, left) < 0.9
    assert correlation(scan, chosen) > 0.97
    assert "72 patches are replaced by their images" in caplog.text
    np.testing.assert_array_equal(patches, before)


def test_nothing_is_turned_where_the_probe_tells(caplog: pytest.LogCaptureFixture) -> None:
    scan = scan_with(make_probe(N))
    patches = half_turned(scan)
    with caplog.at_level(logging.INFO):
        stitched(scan, patches)
    assert "turned by half" not in caplog.text


def test_patches_without_neighbours_are_left_alone_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    scan = scan_with(MIDDLE, step=30.0)
    patches = half_turned(scan)
    object_ = stitched(scan, patches)
    assert "72 of 72 patches do not overlap with any other" in caplog.text
    row, column = (round(float(v)) for v in (scan.ycoords[5], scan.xcoords[5]))
    # a shift by less than a pixel is all that stitching does to it
    middle = abs(object_[row - 3 : row + 4, column - 3 : column + 4]).mean()
    assert middle == pytest.approx(abs(patches[5, 13:20, 13:20]).mean(), rel=0.1)


def test_patches_that_are_not_finite_are_refused_as_ever_and_dark_ones_pass() -> None:
    scan = scan_with(MIDDLE)
    patches = half_turned(scan)
    np.testing.assert_array_equal(abs(stitched(scan, 0 * patches)).max(), 1)  # where nothing was seen
    patches[3, 10, 10] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        stitched(scan, patches)
