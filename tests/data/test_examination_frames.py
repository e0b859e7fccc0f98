"""Patterns without beam and flashes."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.data.examination import sound_frames
from ptychopinn_ptychodus.data.raw import RawData


def scan_of_light(light: np.ndarray, scan_index: np.ndarray | None = None) -> RawData:
    """A raster of 10 × 10 per scan whose patterns hold so many counts."""
    shape = np.abs(np.fft.fftshift(np.fft.fft2(simulation.make_probe(64)[0]))) ** 2
    expected = light[:, None, None] * shape / shape.sum()
    y, x = np.divmod(np.arange(len(light)) % 100, 10) + np.zeros((2, len(light)))
    return RawData(
        xcoords=5 * x,
        ycoords=5 * y,
        diff3d=np.random.default_rng(0).poisson(expected),
        probeGuess=simulation.make_probe(64),
        scan_index=scan_index,
    )


def unsound(raw: RawData) -> np.ndarray:
    return np.flatnonzero(~sound_frames(raw))


def test_patterns_without_beam_and_flashes_are_not_sound() -> None:
    light = np.full(100, 1e4)
    light[[0, 17, 55, 56]], light[[33, 99]] = 0, 1e5
    np.testing.assert_array_equal(
        np.flatnonzero(~sound_frames(scan_of_light(light))), [0, 17, 33, 55, 56, 99]
    )


def test_a_row_without_beam_is_not_sound() -> None:
    light = np.full(100, 1e4)
    light[40:50] = 100
    np.testing.assert_array_equal(unsound(scan_of_light(light)), np.arange(40, 50))


@pytest.mark.parametrize("photons", [100, 1e5])
def test_an_absorbing_feature_and_a_fading_beam_are_sound(photons: float) -> None:
    y, x = np.divmod(np.arange(100), 10)
    feature = 1 - 0.95 / (1 + np.exp(3 * (np.hypot(x - 6, y - 4) - 2.5)))
    assert sound_frames(scan_of_light(photons * feature)).all()
    assert sound_frames(scan_of_light(photons * np.linspace(2, 0.4, 100))).all()


def test_each_scan_is_measured_by_itself() -> None:
    light = np.concatenate([np.full(100, 1e5), np.full(100, 1e3)])
    light[150] = 5e4
    light[20] = 1e3
    raw = scan_of_light(light, np.repeat([3, 4], 100))
    np.testing.assert_array_equal(unsound(raw), [20, 150])
