"""The object that grows: what it looks like, where it lies, and what a frame costs."""

from __future__ import annotations

import time

import numpy as np
import pytest
from refinement_support import correlation

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import make_object, make_probe, raster_positions, simulate_scan
from ptychopinn_ptychodus.live.growing import GrowingObject


def growing(scan: RawData, *, find_probe: bool = True) -> GrowingObject:
    return GrowingObject(scan.probeGuess, scan.bad_pixels, find_probe=find_probe)


def on_grid(found: GrowingObject, scan: RawData) -> np.ndarray:
    """The object on the grid of the truth."""
    assert scan.objectGuess is not None
    object_, _, (left, top) = found.result()
    padded = np.pad(object_, 64, constant_values=1)
    height, width = scan.objectGuess.shape
    return padded[64 - top : 64 - top + height, 64 - left : 64 - left + width]


def test_frames_in_any_order_become_the_object(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    for order in (np.arange(len(scan)), np.random.default_rng(0).permutation(len(scan))):
        found = growing(scan)
        for some in np.array_split(order, 6):
            found.update(counts[some], positions[some])
        assert len(found) == len(scan)
        early = correlation(on_grid(found, scan), scan)
        assert early > 0.9
        for _ in range(10):
            assert found.improve()
        assert correlation(on_grid(found, scan), scan) > max(early, 0.97)


def test_the_canvas_grows_to_all_sides_and_the_object_stays_where_it_is(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    found = growing(scan, find_probe=False)
    order = np.argsort(np.abs(positions - positions.mean(0)).max(1))  # from the middle outwards
    found.update(counts[order[:20]], positions[order[:20]])
    first, _, corner = found.result()
    found.update(counts[order[20:]], positions[order[20:]])
    last, probe, origin = found.result()
    assert (origin < corner).all()
    assert (origin == np.floor(positions.min(0)) - 32).all()
    assert last.shape > first.shape
    assert probe.shape == scan.probeGuess.shape
    # far from the origin of the positions it is the same
    moved = growing(scan, find_probe=False)
    moved.update(counts[order[:20]], positions[order[:20]] - 5000)
    elsewhere, _, there = moved.result()
    assert np.allclose(elsewhere, first, atol=1e-3)
    assert (there == corner - 5000).all()


def test_dark_frames_and_flashes_leave_the_object_alone(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    found = growing(scan, find_probe=False)
    found.update(counts[:64], positions[:64])
    before = found.result()[0]
    odd = np.stack((counts[0] * 0, np.minimum(counts[0].astype(np.uint32) * 100, 2**31)))
    found.update(odd, positions[:2])
    assert np.array_equal(found.result()[0], before)


def test_a_wrong_probe_is_found_from_the_first_frames(
    scan: RawData, counts: np.ndarray, positions: np.ndarray
) -> None:
    y, x = np.indices((64, 64)) - 32
    far_field = np.fft.fftshift(np.fft.fft2(scan.probeGuess)) * np.exp(0.004j * (x**2 + y**2))
    defocused = np.fft.ifft2(np.fft.ifftshift(far_field)).astype(np.complex64)
    correlations = []
    for find_probe in (False, True):
        found = GrowingObject(defocused, scan.bad_pixels, find_probe=find_probe)
        found.update(counts, positions)
        correlations.append(correlation(on_grid(found, scan), scan))
    assert correlations[1] > max(0.9, correlations[0] + 0.01)


def test_a_position_that_would_fill_the_memory_is_told_from_the_others(scan: RawData) -> None:
    found = growing(scan)
    positions = np.array([(10.0, 10.0), (12.0, 10.0), (1e9, -1e9), (14.0, 10.0)])
    assert found.holds(positions).tolist() == [True, True, False, True]


def test_a_frame_costs_the_same_however_many_there_were() -> None:
    x, y = raster_positions(8, 200, 6.0, jitter=0.3, origin=40.0, seed=1)
    order = np.argsort(np.round(x), kind="stable") if np.ptp(x) > np.ptp(y) else np.arange(len(x))
    x, y = x[order], y[order]
    shape = (int(y.max()) + 41, int(x.max()) + 41)
    scan = simulate_scan(make_object(shape, seed=2), make_probe(64), x, y, photons=1e6, seed=3)
    found = GrowingObject(scan.probeGuess, scan.bad_pixels, domain="amplitude", find_probe=False)
    seconds = []
    for start in range(0, len(scan) - 63, 64):
        some = slice(start, start + 64)
        begin = time.thread_time()
        found.update(scan.diff3d[some], np.stack((x[some], y[some]), -1))
        seconds.append(time.thread_time() - begin)
    third = len(seconds) // 3
    # enlarging the canvas and the clock's noise are in it; what grows with the scan would be a factor of 3
    assert np.median(seconds[-third:]) < 1.4 * np.median(seconds[1 : 1 + third])


class Clairvoyant:
    """A network that knows the object, but neither its phase nor its scale."""

    def __init__(self, scan: RawData) -> None:
        self.asked = 0
        self._scan = scan

    def __enter__(self) -> Clairvoyant:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def object_of(self, scan: RawData) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        self.asked += 1
        if self.asked == 2:
            raise ValueError("too few frames")
        truth = self._scan.objectGuess
        assert truth is not None
        rows, columns = np.indices((2 * 64, 2 * 64))
        left, top = int(scan.xcoords.min()) - 32, int(scan.ycoords.min()) - 32
        # where the window lies in the truth is found by its first position
        at_x, at_y = self._first(scan)
        rows = np.clip(rows + top + at_y, 0, truth.shape[0] - 1)
        columns = np.clip(columns + left + at_x, 0, truth.shape[1] - 1)
        turned = truth[rows, columns] * np.exp(1j * self.asked) * 1.3
        return turned.astype(np.complex64), np.ones(turned.shape, np.float32), (left, top)

    def _first(self, scan: RawData) -> tuple[int, int]:
        same = [
            k for k, pattern in enumerate(self._scan.diff3d) if np.allclose(pattern, scan.diff3d[0], atol=0.5)
        ]
        return (
            round(self._scan.xcoords[same[0]] - scan.xcoords[0]),
            round(self._scan.ycoords[same[0]] - scan.ycoords[0]),
        )


@pytest.mark.parametrize("count", [30, 169])
def test_a_network_is_laid_in_with_the_phase_of_what_is_there(
    scan: RawData, counts: np.ndarray, positions: np.ndarray, count: int
) -> None:
    alone, network = growing(scan, find_probe=False), Clairvoyant(scan)
    helped = GrowingObject(scan.probeGuess, scan.bad_pixels, network=network, find_probe=False)
    for start in range(0, count, 30):
        some = slice(start, min(start + 30, count))
        alone.update(counts[some], positions[some])
        helped.update(counts[some], positions[some])
    assert network.asked >= count // 64
    assert helped.error < alone.error
