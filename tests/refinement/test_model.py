"""Forward model and gradients against the float64 reference and its finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_ptychodus.data.grouping import neighbourhood_order
from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import diffraction_intensity
from ptychopinn_ptychodus.refinement.arrays import Array, Arrays, NumpyArrays, TorchArrays
from ptychopinn_ptychodus.refinement.batches import spread_batches
from ptychopinn_ptychodus.refinement.gradients import Gradients
from ptychopinn_ptychodus.refinement.iterate import Iterate, chequerboard
from ptychopinn_ptychodus.refinement.model import ScanModel

N = 64
MODES = 2
INDICES = np.array([0, 2, 3])


@pytest.fixture(scope="module")
def problem() -> tuple[RawData, np.ndarray, np.ndarray, np.ndarray]:
    """Scan, canvas, probe, positions: far from fitting each other, so that no gradient vanishes."""
    rng = np.random.default_rng(0)
    positions = np.array([[33.2, 34.9], [34.0, 33.5], [36.45, 33.1], [35.7, 36.3]])
    canvas = _smooth(rng, (72, 74)) + 1.0
    axis = np.arange(N) - (N - 1) / 2
    envelope = np.exp(-(axis[:, None] ** 2 + axis**2) / 200)
    # rough enough to reach the Nyquist frequency
    rough = rng.normal(0, 0.5, (N, N))
    probe = np.stack([(1 + rough + _smooth(rng, (N, N))) * envelope * scale for scale in (30.0, 12.0)])
    bad = np.zeros((N, N), bool)
    bad[28:36, 30:38] = bad[0, 0] = True
    expected = _intensity(canvas * (1 + 0.3 * _smooth(rng, canvas.shape)), probe * 1.1, positions)
    raw = RawData(
        xcoords=positions[:, 0],
        ycoords=positions[:, 1],
        diff3d=rng.poisson(expected),
        probeGuess=probe,
        bad_pixels=bad,
        domain="counts",
    )
    return raw, canvas, probe, positions


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    spectrum = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    fy, fx = (np.fft.fftfreq(n) for n in shape)
    image = np.fft.ifft2(spectrum * np.exp(-((fy[:, None] ** 2 + fx**2) * 300)))
    return 0.5 * image / np.abs(image).max()


def _moved(probe: np.ndarray, dx: float, dy: float) -> np.ndarray:
    f = np.fft.fftfreq(N)
    f[N // 2] = 0.0
    return np.fft.ifft2(np.fft.fft2(probe) * np.exp(-2j * np.pi * (f * dx + f[:, None] * dy)))


def _intensity(canvas: np.ndarray, probe: np.ndarray, positions: np.ndarray) -> np.ndarray:
    patterns = []
    for x, y in positions:
        first = np.array([x, y]) - (N - 1) / 2
        column, row = np.rint(first).astype(int)
        patch = canvas[row : row + N, column : column + N]
        patterns.append(diffraction_intensity(patch[None], _moved(probe, first[0] - column, first[1] - row)))
    return np.concatenate(patterns)


def _loss(
    raw: RawData,
    metric: str,
    canvas: np.ndarray,
    probe: np.ndarray,
    positions: np.ndarray,
    *,
    outliers_bounded: bool = False,
) -> float:
    good = ~raw.bad_pixels
    rate = _intensity(canvas, probe, positions[INDICES])[:, good]
    amplitude = raw.diff3d[INDICES][:, good].astype(np.float64)
    if metric == "amplitude":
        return float(((np.sqrt(rate) - amplitude) ** 2).sum())
    counts = amplitude**2
    seen = np.maximum(counts, 1e-12)
    loss = 0.5 * (rate - counts + counts * np.log(seen / rate))
    if outliers_bounded:
        modelled = np.sqrt(rate)
        joint = 0.5 * counts * (1 / 9 - 1 + np.log(9)) - 2 * (2 / 3 * amplitude) ** 2
        loss = np.where(amplitude > 3 * modelled, 2 * (modelled - amplitude) ** 2 + joint, loss)
    return float(loss.sum())


def _estimate(arrays: Arrays, canvas: np.ndarray, probe: np.ndarray, positions: np.ndarray) -> Iterate:
    put, modulated = arrays.put, (probe * chequerboard(N)).astype(np.complex64)
    return Iterate(put(canvas.astype(np.complex64)), put(modulated), positions.copy())


@pytest.fixture(params=["numpy", "torch"])
def arrays(request: pytest.FixtureRequest) -> Arrays:
    if request.param == "numpy":
        return NumpyArrays()
    pytest.importorskip("torch")
    return TorchArrays("cpu")


@pytest.mark.parametrize("metric", ["amplitude", "poisson"])
def test_the_error_is_that_of_the_reference(
    problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray], arrays: Arrays, metric: str
) -> None:
    raw, canvas, probe, positions = problem
    model = ScanModel(raw, arrays, metric)
    found = model.compare(_estimate(arrays, canvas, probe, positions), INDICES)
    good = ~raw.bad_pixels
    rate = _intensity(canvas, probe, positions[INDICES])[:, good]
    amplitude = raw.diff3d[INDICES][:, good]
    assert found.errors.sum() == pytest.approx(_loss(raw, metric, canvas, probe, positions), rel=1e-3)
    assert found.counts == pytest.approx((amplitude.astype(np.float64) ** 2).sum(axis=1), rel=1e-5)
    assert found.cross == pytest.approx((amplitude * np.sqrt(rate)).sum(axis=1), rel=1e-5)
    assert found.modelled == pytest.approx(rate.sum(axis=1), rel=1e-5)


@pytest.mark.parametrize("metric", ["amplitude", "poisson"])
def test_gradients_are_those_of_the_reference(
    problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray], arrays: Arrays, metric: str
) -> None:
    raw, canvas, probe, positions = problem
    model = ScanModel(raw, arrays, metric)
    iterate = _estimate(arrays, canvas, probe, positions)
    found = model.gradients(iterate, INDICES, probe=True, positions=True)
    assert found.errors.sum() == pytest.approx(_loss(raw, metric, canvas, probe, positions), rel=1e-3)
    gradient_canvas = arrays.get(found.canvas)
    gradient_probe = arrays.get(found.probe) * chequerboard(N)
    rng = np.random.default_rng(5)

    def slope(dc: np.ndarray, dp: np.ndarray, dr: np.ndarray, step: float) -> float:
        ahead, behind = (
            _loss(raw, metric, canvas + s * dc, probe + s * dp, positions + s * dr, outliers_bounded=True)
            for s in (step, -step)
        )
        return (ahead - behind) / (2 * step)

    still_c, still_p, still_r = np.zeros_like(canvas), np.zeros_like(probe), np.zeros_like(positions)
    for _ in range(3):
        dc = _smooth(rng, canvas.shape)
        expected = slope(dc, still_p, still_r, 1e-4)
        assert 2 * np.vdot(dc, gradient_canvas).real == pytest.approx(expected, rel=5e-3)
        dp = np.stack([_smooth(rng, (N, N)), _smooth(rng, (N, N))])
        expected = slope(still_c, dp, still_r, 1e-3)
        assert 2 * np.vdot(dp, gradient_probe).real == pytest.approx(expected, rel=5e-3)
    assert found.positions is not None
    for place, index in enumerate(INDICES):
        for axis in range(2):
            dr = still_r.copy()
            dr[index, axis] = 1.0
            expected = slope(still_c, still_p, dr, 1e-4)
            assert 2 * found.positions[place, axis] == pytest.approx(expected, rel=5e-3)


def test_weights_are_what_each_pattern_adds_to_the_gradients(
    problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray], arrays: Arrays
) -> None:
    raw, canvas, probe, positions = problem
    model = ScanModel(raw, arrays, "amplitude")
    iterate = _estimate(arrays, canvas, probe, positions)

    def gradients(indices: list[int], weights: np.ndarray | None = None) -> Gradients:
        return model.gradients(iterate, np.array(indices), probe=True, positions=False, weights=weights)

    found = gradients([0, 2], np.array([1.0, 9.0, 0.25, 9.0]))
    first, third = gradients([0]), gradients([2])
    for name in ("canvas", "probe"):
        expected = arrays.get(getattr(first, name)) + 0.25 * arrays.get(getattr(third, name))
        np.testing.assert_allclose(
            arrays.get(getattr(found, name)), expected, atol=1e-4 * np.abs(expected).max()
        )
    np.testing.assert_allclose(found.errors, [first.errors[0], third.errors[0]], rtol=1e-5)


def test_the_object_alone_costs_no_gradient_of_anything_else(
    problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray], arrays: Arrays
) -> None:
    raw, canvas, probe, positions = problem
    model = ScanModel(raw, arrays, "amplitude")
    iterate = _estimate(arrays, canvas, probe, positions)
    alone = model.gradients(iterate, INDICES, probe=False, positions=False)
    both = model.gradients(iterate, INDICES, probe=True, positions=True)
    assert alone.probe is None
    assert alone.positions is None
    np.testing.assert_allclose(arrays.get(alone.canvas), arrays.get(both.canvas), rtol=1e-5, atol=1e-3)


def test_bad_pixels_take_no_part(
    problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray], arrays: Arrays
) -> None:
    raw, canvas, probe, positions = problem
    other = raw.select(slice(None))
    other.diff3d = raw.diff3d.copy()
    other.diff3d[:, raw.bad_pixels] = 1e4
    iterate = _estimate(arrays, canvas, probe, positions)
    for metric in ("amplitude", "poisson"):
        one, two = (
            ScanModel(r, arrays, metric).gradients(iterate, INDICES, probe=True, positions=True)
            for r in (raw, other)
        )
        np.testing.assert_array_equal(one.errors, two.errors)
        np.testing.assert_array_equal(arrays.get(one.canvas), arrays.get(two.canvas))
        np.testing.assert_array_equal(arrays.get(one.probe), arrays.get(two.probe))


def test_no_light_where_counts_are_gives_a_finite_gradient(
    problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray], arrays: Arrays
) -> None:
    raw, canvas, probe, positions = problem
    dark = _estimate(arrays, canvas * 0, probe, positions)
    for metric in ("amplitude", "poisson"):
        found = ScanModel(raw, arrays, metric).gradients(dark, INDICES, probe=True, positions=True)
        assert np.isfinite(arrays.get(found.canvas)).all()
        assert np.isfinite(arrays.get(found.probe)).all()


def test_illumination_is_the_sum_of_the_probes_power(
    problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray], arrays: Arrays
) -> None:
    raw, canvas, probe, positions = problem
    model = ScanModel(raw, arrays, "amplitude")
    total = arrays.get(model.illumination(_estimate(arrays, canvas, probe, positions), np.arange(4)))
    expected = np.zeros(canvas.shape)
    for x, y in np.rint(positions - (N - 1) / 2).astype(int):
        expected[y : y + N, x : x + N] += (np.abs(probe) ** 2).sum(0)
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-3)


class _Watched(NumpyArrays):
    """Two patterns of two modes at a time; notes how many patches are added at once."""

    elements = 2 * MODES * N * N

    def __init__(self) -> None:
        super().__init__()
        self.added: list[int] = []

    def add(self, canvas: Array, patches: Array, rows: np.ndarray, columns: np.ndarray) -> None:
        self.added.append(len(rows))
        super().add(canvas, patches, rows, columns)


def test_large_scans_are_lit_in_chunks(problem: tuple[RawData, np.ndarray, np.ndarray, np.ndarray]) -> None:
    raw, canvas, probe, positions = problem
    whole = NumpyArrays()
    everything = np.arange(len(raw))
    expected = ScanModel(raw, whole, "amplitude").illumination(
        _estimate(whole, canvas, probe, positions), everything
    )
    watched = _Watched()
    model = ScanModel(raw, watched, "amplitude")
    found = model.illumination(_estimate(watched, canvas, probe, positions), everything)
    assert watched.added == [2, 2]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("count", "batches"), [(100, 16), (17, 16), (5, 5), (64, 1)])
def test_batches_deal_out_the_scan_evenly(count: int, batches: int) -> None:
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 100, (count, 2))
    order = neighbourhood_order(positions)
    dealt = list(spread_batches(order, batches, rng))
    assert sorted(np.concatenate(dealt)) == list(range(count))
    assert len(dealt) == batches
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_every_batch_reaches_every_part_of_the_scan() -> None:
    y, x = np.mgrid[:32, :32]
    order = neighbourhood_order(np.stack((x.ravel(), y.ravel()), -1).astype(float))
    for batch in spread_batches(order, 16, np.random.default_rng(0)):
        cells = set(zip((x.ravel()[batch] // 8).tolist(), (y.ravel()[batch] // 8).tolist(), strict=True))
        assert len(cells) == 16
