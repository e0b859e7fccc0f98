"""What a product says of the beam's brightness at each position."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

import numpy as np
import pytest
from plugin_support import make_data, make_product
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.reconstruct import prepare_reconstruct_input

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input, join_scans

pytestmark = pytest.mark.skipif(
    "probe_photon_count" not in {field.name for field in dataclasses.fields(ProbePosition)},
    reason="this Ptychodus has no photon counts of positions",
)

COUNT = 10


def scan_with(photons: Iterable[float] | None) -> RawData:
    product = make_product(COUNT)
    if photons is not None:
        positions = [
            dataclasses.replace(position, probe_photon_count=count)
            for position, count in zip(product.probe_positions, photons, strict=True)
        ]
        product = dataclasses.replace(product, probe_positions=ProbePositionSequence(positions))
    return from_reconstruct_input(prepare_reconstruct_input(make_data(COUNT), product), with_object=False)


def test_counts_of_the_product_are_the_exposures() -> None:
    photons = np.linspace(2e6, 1e6, COUNT)
    raw = scan_with(photons)
    assert raw.exposures == pytest.approx(photons / photons.mean())
    assert raw.incident_photons / raw.photons_per_pattern == pytest.approx(photons / photons.mean())


@pytest.mark.parametrize("photons", [None, [0.0] * COUNT, [1e6] * COUNT])
def test_without_counts_or_with_the_same_ones_the_beam_is_steady(photons: list[float] | None) -> None:
    raw = scan_with(photons)
    np.testing.assert_array_equal(raw.exposures, 1.0)
    assert raw.photons_per_pattern == pytest.approx(scan_with(None).photons_per_pattern)


def test_positions_without_a_count_are_as_bright_as_most(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        raw = scan_with([2.0, 0.0, 3.0, *[1.0] * (COUNT - 3)])
    expected = np.array([2.0, 1.0, 3.0, *[1.0] * (COUNT - 3)])
    assert raw.exposures == pytest.approx(expected / expected.mean())
    assert "1 of 10 positions have no probe photon count" in caplog.text


def test_counts_of_few_positions_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        raw = scan_with([2.0, 1.0, *[0.0] * (COUNT - 2)])
    np.testing.assert_array_equal(raw.exposures, 1.0)
    assert "2 of 10 positions only" in caplog.text


def test_scans_that_are_joined_keep_their_exposures() -> None:
    one, other = scan_with(np.linspace(2, 1, COUNT)), scan_with(None)
    both = join_scans([one, other])
    assert both.exposures == pytest.approx(np.concatenate([one.exposures, other.exposures]))
