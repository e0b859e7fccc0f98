"""The object from all patterns at once: its probability, its gradient, and what a refinement gains by it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from refinement_support import correlation, made_scan, true_positions, with_patterns
from scipy import ndimage

from ptychopinn_ptychodus.data.raw import RawData
from ptychopinn_ptychodus.data.simulation import (
    diffraction_intensity,
    make_probe,
    raster_positions,
    simulate_scan,
)
from ptychopinn_ptychodus.refinement import RefinementConfig, ending, moved_probes
from ptychopinn_ptychodus.refinement.arrays import Arrays, NumpyArrays, TorchArrays
from ptychopinn_ptychodus.refinement.curvature import Curvature, object_curvature
from ptychopinn_ptychodus.refinement.iterate import Iterate, chequerboard
from ptychopinn_ptychodus.refinement.model import ScanModel
from ptychopinn_ptychodus.refinement.object_steps import ObjectSteps
from ptychopinn_ptychodus.refinement.prior import ObjectPrior
from ptychopinn_ptychodus.refinement.report import Refined
from ptychopinn_ptychodus.refinement.solver import refine
from ptychopinn_ptychodus.refinement.stages import Stages
from ptychopinn_ptychodus.refinement.whole_scan import Posterior, most_probable

N = 64
MARGIN = 8  # pixels, since patches reach beyond the scan's own object
CONFIG = RefinementConfig(epochs=10)
NOTHING_KNOWN = Curvature(np.array([0.1]), np.zeros((2, 1)), np.zeros((2, 1)))
ROUGH = 0.06  # standard deviation of the start's noise, each part


@dataclass
class Problem:
    """A dim scan, and an estimate of its object that is the truth with noise."""

    raw: RawData
    truth: np.ndarray
    arrays: Arrays
    model: ScanModel
    iterate: Iterate
    prior: ObjectPrior
    curvature: Curvature
    light: np.ndarray
    weights: np.ndarray

    def posterior(self, should_stop: Callable[[], bool] | None = None) -> Posterior:
        canvas = self.arrays.get(self.iterate.canvas)
        field = self.prior.field(canvas, self.curvature)
        return Posterior(self.model, self.arrays, self.iterate, field, self.weights, should_stop)

    def canvas(self, numbers: np.ndarray) -> np.ndarray:
        """(H, W) complex128."""
        return np.asarray(self.arrays.get(self.posterior().canvas(numbers)), np.complex128)


@pytest.fixture(scope="module")
def dim() -> RawData:
    """A scan of a few counts in the brightest pixels."""
    return made_scan(photons=1e4, seed=21)


@pytest.fixture(params=["numpy", "torch"])
def problem(request: pytest.FixtureRequest, dim: RawData) -> Problem:
    return posed(dim, request.param)


def posed(dim: RawData, library: str) -> Problem:
    if library == "torch":
        pytest.importorskip("torch")
    arrays: Arrays = NumpyArrays() if library == "numpy" else TorchArrays("cpu")
    assert dim.objectGuess is not None
    rng = np.random.default_rng(5)
    truth = np.pad(dim.objectGuess, MARGIN, constant_values=1)
    noise = rng.normal(scale=ROUGH, size=(2, *truth.shape))
    canvas = (truth + noise[0] + 1j * noise[1]).astype(np.complex64)
    probe = (dim.probeGuess * chequerboard(N)).astype(np.complex64)
    iterate = Iterate(arrays.put(canvas), arrays.put(probe), true_positions(dim) + MARGIN)
    model = ScanModel(dim, arrays, "poisson", np.inf)
    scan = np.arange(dim.n_patterns)
    prior = ObjectPrior(model.mean_counts(scan), canvas.shape, arrays)
    light = model.illumination(iterate, scan)
    on_host = arrays.get(light)
    prior.learn(canvas, on_host, float(model.compare(iterate, scan).errors.mean()))
    curvature = object_curvature(model, arrays, iterate, light, prior.turn)
    weights = rng.uniform(0.2, 1.0, dim.n_patterns)
    return Problem(dim, truth, arrays, model, iterate, prior, curvature, on_host, weights)


def misfit(problem: Problem, canvas: np.ndarray) -> float:
    """-log of the patterns' probability, weighted, less that of λ = n; by the float64 forward model."""
    raw, total = problem.raw, 0.0
    f = np.fft.fftfreq(N)
    f[N // 2] = 0.0
    for weight, x, y, amplitude in zip(
        problem.weights, raw.xcoords, raw.ycoords, raw.diff3d.astype(np.float64), strict=True
    ):
        left, top = x + MARGIN - (N - 1) / 2, y + MARGIN - (N - 1) / 2
        column, row = int(np.rint(left)), int(np.rint(top))
        ramp = np.exp(-2j * np.pi * (f * (left - column) + f[:, None] * (top - row)))
        probe = np.fft.ifft2(np.fft.fft2(raw.probeGuess.astype(np.complex128)) * ramp)
        rate = diffraction_intensity(canvas[None, row : row + N, column : column + N], probe)[0]
        counts = amplitude**2
        ratio = np.where(counts > 0, counts, 1.0) / rate
        total += weight * float((rate - counts + counts * np.log(ratio)).sum())
    return total


def test_a_cost_is_that_of_the_patterns_and_of_the_prior(problem: Problem) -> None:
    posterior = problem.posterior()
    # without curvature, the numbers are those of variance 1
    white = problem.prior.field(problem.arrays.get(problem.iterate.canvas), NOTHING_KNOWN).start
    expected = misfit(problem, problem.canvas(posterior.start)) + 0.5 * float((white**2).sum())
    assert posterior(posterior.start)[0] == pytest.approx(expected, rel=1e-4)


def test_coordinates_make_no_difference_to_an_object_and_its_prior(problem: Problem) -> None:
    canvas = problem.arrays.get(problem.iterate.canvas)
    one, other = (problem.prior.field(canvas, known) for known in (NOTHING_KNOWN, problem.curvature))
    assert np.abs(one.start - other.start).max() > 1
    np.testing.assert_allclose(other.canvas(other.start), one.canvas(one.start), atol=1e-5)
    # numbers are of single precision
    assert other.penalty(other.start) == pytest.approx(one.penalty(one.start), rel=1e-6)


@pytest.mark.parametrize("of_factor", [False, True])
def test_the_gradient_is_that_of_finite_differences(problem: Problem, of_factor: bool) -> None:
    posterior = problem.posterior()
    field = problem.prior.field(problem.arrays.get(problem.iterate.canvas), problem.curvature)
    by = 0.05 if of_factor else 2e-3
    rng = np.random.default_rng(0)
    parts = 2 * field.pixels
    assert len(posterior.start) > parts + 8
    start = posterior.start.astype(np.float64)
    start[parts:] = rng.normal(size=len(start) - parts)
    _, gradient = posterior(start)
    for _ in range(3):
        direction = rng.normal(size=start.shape)
        if of_factor:
            direction[:parts] = 0
        ahead, behind = (
            misfit(problem, problem.canvas(at)) + field.penalty(at)
            for at in (start + by * direction, start - by * direction)
        )
        # the object is of single precision
        assert float(gradient @ direction) == pytest.approx((ahead - behind) / (2 * by), rel=0.03)


@pytest.mark.parametrize("factor", [1.0, 1j])
@pytest.mark.parametrize("frequency", [0.02, 0.1])
def test_the_curvature_is_that_of_the_patterns(dim: RawData, factor: complex, frequency: float) -> None:
    problem = posed(dim, "numpy")
    problem.weights[:] = 1.0
    y, x = np.indices(problem.truth.shape)
    wave = 0.02 * np.cos(2 * np.pi * frequency * (0.8 * x + 0.6 * y) + 1.0)
    canvas = problem.iterate.canvas.astype(np.complex128)
    change = wave * factor * np.conj(problem.prior.turn)
    ahead, here, behind = (misfit(problem, canvas + sign * change) for sign in (1, 0, -1))
    usual = float(np.median(problem.light[problem.light > 0.1 * problem.light.max()]))
    found = (ahead - 2 * here + behind) / float((problem.light / usual * wave**2).sum())
    known = problem.curvature.of_parts[0 if factor == 1.0 else 1]
    assert np.interp(frequency, problem.curvature.frequencies, known) == pytest.approx(found, rel=0.5)


def test_large_scales_show_by_the_amplitude_and_hardly_by_the_phase(problem: Problem) -> None:
    amplitude, phase = problem.curvature.of_parts
    assert phase[0] < 0.2 * amplitude[0]
    assert phase[-1] == pytest.approx(amplitude[-1], rel=0.3)


@pytest.mark.parametrize("part", [0, 1])
def test_the_curvature_of_a_slow_factor_is_that_of_the_patterns(dim: RawData, part: int) -> None:
    problem = posed(dim, "numpy")
    problem.weights[:] = 1.0
    y, x = np.indices(problem.truth.shape)
    wave = 0.02 * np.cos(2 * np.pi * 0.02 * (0.8 * x + 0.6 * y) + 1.0)
    canvas = problem.iterate.canvas.astype(np.complex128)
    ahead, here, behind = (
        misfit(problem, canvas * np.exp(sign * wave * (1, 1j)[part])) for sign in (1, 0, -1)
    )
    usual = float(np.median(problem.light[problem.light > 0.1 * problem.light.max()]))
    found = (ahead - 2 * here + behind) / float((problem.light / usual * wave**2).sum())
    known = np.interp(0.02, problem.curvature.frequencies, problem.curvature.of_factor[part])
    assert known == pytest.approx(found, rel=0.5)


def test_it_starts_from_the_estimate_less_its_noise(problem: Problem) -> None:
    inside = (slice(4 * MARGIN, -4 * MARGIN),) * 2
    canvas = problem.arrays.get(problem.iterate.canvas)
    before, after = (
        float(np.std((one - problem.truth)[inside]))
        for one in (canvas, problem.canvas(problem.posterior().start))
    )
    assert after < 0.7 * before


def test_no_step_leads_to_a_less_probable_object(problem: Problem) -> None:
    posterior = problem.posterior()
    found = [posterior.start, *(most_probable(posterior, steps)[0] for steps in (1, 5, 20))]
    costs = [posterior(numbers)[0] for numbers in found]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0] - 100


def test_the_estimate_that_it_starts_from_is_left_as_it_is(problem: Problem) -> None:
    before = problem.iterate.copy(problem.arrays)
    most_probable(problem.posterior(), 2)
    for one, other in ((problem.iterate.canvas, before.canvas), (problem.iterate.probe, before.probe)):
        np.testing.assert_array_equal(problem.arrays.get(one), problem.arrays.get(other))


def test_both_libraries_arrive_at_the_same(dim: RawData) -> None:
    problems = [posed(dim, library) for library in ("numpy", "torch")]
    one, other = (p.canvas(most_probable(p.posterior(), 5)[0]) for p in problems)
    assert np.abs(one - problems[0].canvas(problems[0].posterior().start)).max() > 0.01
    np.testing.assert_allclose(other, one, atol=1e-3)


def test_progress_is_told_after_every_step(problem: Problem) -> None:
    parts: list[float] = []
    most_probable(problem.posterior(), 4, parts.append)
    assert parts == [0.25, 0.5, 0.75, 1.0]


def test_stopped_it_answers_within_a_few_patterns_with_the_last_whole_step(problem: Problem) -> None:
    parts: list[float] = []
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(parts) == 2)  # after two steps, in the middle of a pass
        return asked[-1]

    numbers, stopped = most_probable(problem.posterior(stop), 50, parts.append)
    assert stopped
    assert len(parts) == 2
    assert asked.count(True) == 1
    np.testing.assert_array_equal(numbers, most_probable(problem.posterior(), 2)[0])


def from_flat(scan: RawData, config: RefinementConfig, **how: Any) -> Refined:
    assert scan.objectGuess is not None
    flat = np.ones_like(scan.objectGuess)
    return refine(scan, flat, scan.probeGuess, config, device="cpu", quiet=True, **how)


def test_a_weak_object_shows_more_than_steps_by_batches_find(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = raster_positions(13, 13, 5.0, jitter=0.3, origin=30.0, seed=3)
    hills = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(124, 120)), 6)
    weak = np.exp(0.15j * hills / hills.std()).astype(np.complex64)
    scan = simulate_scan(weak, make_probe(N), x, y, photons=3e4, seed=5)
    whole = correlation(from_flat(scan, CONFIG).object, scan)
    monkeypatch.setattr(ending, "_MOST_ROUNDS", 0)
    by_batches = correlation(from_flat(scan, CONFIG).object, scan)
    # a part of what was missing that no chance makes
    assert 1 - whole < 0.85 * (1 - by_batches)


def test_more_epochs_do_not_spoil_the_object(dim: RawData) -> None:
    few, many = (correlation(from_flat(dim, RefinementConfig(epochs=n)).object, dim) for n in (10, 30))
    assert many > few - 0.005


@pytest.mark.parametrize(("change", "rounds"), [(0.1, 2), (0.2, 8)])
def test_the_object_is_solved_for_as_long_as_that_changes_it(
    dim: RawData, monkeypatch: pytest.MonkeyPatch, change: float, rounds: int
) -> None:
    """Its power, which it is held by, is learnt from what is found of it."""
    solved: list[None] = []
    solve = ObjectSteps.solve

    def counted(*arguments: Any) -> bool:
        solved.append(None)
        return solve(*arguments)

    monkeypatch.setattr(ObjectSteps, "solve", counted)
    monkeypatch.setattr(ObjectSteps, "change", lambda *_: change)
    parts: list[float] = []
    from_flat(dim, CONFIG, on_progress=parts.append, stages=~(Stages.PUPIL | Stages.TERMS))
    assert len(solved) == rounds
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)


def test_a_change_is_measured_by_the_contrast_where_there_is_light(problem: Problem) -> None:
    mean = problem.model.mean_counts(np.arange(problem.raw.n_patterns))
    steps = ObjectSteps(problem.model, problem.arrays, CONFIG, problem.iterate, 1, mean)
    steps.prepare(problem.iterate)
    canvas = problem.iterate.canvas
    light = problem.light / problem.light.sum()
    on_host = problem.arrays.get(canvas)
    average = complex((light * on_host).sum())
    assert steps.change(canvas, canvas) == 0.0
    assert steps.change(average + (canvas - average) * 0.7, canvas) == pytest.approx(0.3, rel=1e-3)
    dark = np.where(problem.light > 0, 0.0, 5.0).astype(np.complex64)
    assert steps.change(canvas + problem.arrays.put(dark), canvas) == pytest.approx(0.0, abs=1e-6)


def test_stopped_while_it_solves_it_keeps_what_it_has(dim: RawData) -> None:
    parts: list[float] = []
    result = from_flat(
        dim,
        CONFIG,
        on_progress=parts.append,
        should_stop=lambda: bool(parts) and parts[-1] > 0.7,
        stages=~(Stages.PUPIL | Stages.TERMS),
    )
    assert result.stopped
    assert len(result.history) == CONFIG.epochs
    assert 0.7 < parts[-1] < 1.0
    assert parts == sorted(parts)
    assert correlation(result.object, dim) > 0.9


def test_progress_ends_at_one(dim: RawData) -> None:
    parts: list[float] = []
    from_flat(dim, CONFIG, on_progress=parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)
    assert len(set(parts)) > 24 * CONFIG.epochs + 5


def test_it_ends_where_more_steps_gain_little(problem: Problem) -> None:
    steps: list[float] = []
    most_probable(problem.posterior(), 1000, steps.append)
    assert 5 <= len(steps) < 60


@pytest.mark.parametrize("unit", [1e-9, 30.0])
def test_the_unit_of_the_counts_makes_no_difference(dim: RawData, unit: float) -> None:
    assert dim.objectGuess is not None
    scaled, flat = with_patterns(dim, dim.diff3d * np.sqrt(unit)), np.ones_like(dim.objectGuess)
    found = refine(scaled, flat, dim.probeGuess, CONFIG, device="cpu", quiet=True)
    expected = correlation(from_flat(dim, CONFIG).object, dim)
    assert correlation(found.object, dim) == pytest.approx(expected, abs=0.003)


def slow_phase(canvas: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square of the error of the phase along the middle rows, less a ramp."""
    middle = slice(len(canvas) // 2 - 12, len(canvas) // 2 + 12)
    along = (canvas * truth.conj())[middle].sum(0)[40:-40]
    pieces = along[: len(along) // 16 * 16].reshape(-1, 16).sum(1)
    phase, where = np.unwrap(np.angle(pieces)), np.arange(len(pieces))
    return float(np.std(phase - np.polyval(np.polyfit(where, phase, 1), where)))


def test_the_largest_scales_of_a_strong_object_come_with_its_details() -> None:
    """A long scan, on the whole of which the phase of a slow wave is wrong: hardly any pattern sees it."""
    shape, rng = (88, 424), np.random.default_rng(6)
    fine = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, 2, 2))
    fine /= fine.std()
    truth = ((0.75 + 0.1 * fine[0]) * np.exp(0.4j * fine[1])).astype(np.complex64)
    x, y = raster_positions(60, 4, 6.0, jitter=0.3, origin=34.0, seed=3)
    scan = simulate_scan(truth, make_probe(N), x, y, photons=1e6, seed=5)
    arrays, indices = NumpyArrays(), np.arange(scan.n_patterns)
    model = ScanModel(scan, arrays, "poisson", np.inf)
    wave = np.exp(0.2j * np.sin(2 * np.pi * np.arange(shape[1]) / 300))
    probe = (scan.probeGuess * chequerboard(N)).astype(np.complex64)
    iterate = Iterate((truth * wave).astype(np.complex64), probe, np.stack((x, y), -1))
    light = model.illumination(iterate, indices)
    prior = ObjectPrior(model.mean_counts(indices), shape, arrays)
    prior.learn(iterate.canvas, light, float(model.compare(iterate, indices).errors.mean()))
    curvature = object_curvature(model, arrays, iterate, light, prior.turn)
    field = prior.field(iterate.canvas, curvature)
    posterior = Posterior(model, arrays, iterate, field, np.ones(len(indices)))
    numbers, _ = most_probable(posterior, 10)
    found = posterior.canvas(numbers)
    assert slow_phase(found, truth) < 0.2 * slow_phase(iterate.canvas, truth)


def test_memory_grows_by_little_with_the_patterns(dim: RawData, monkeypatch: pytest.MonkeyPatch) -> None:
    """More patterns of the same sample: what grows is kept for each of them, or is made of all at once."""
    # moved probes that are kept grow as well, up to a bound that is more than all else of so few patterns
    monkeypatch.setattr(moved_probes, "_ELEMENTS", 0)

    def peak(times: int) -> int:
        scan = dim.select(np.tile(np.arange(dim.n_patterns), times))
        assert scan.incident_photons.size == times * dim.n_patterns
        tracemalloc.start()
        try:
            found = from_flat(scan, RefinementConfig(epochs=4), stages=~(Stages.PUPIL | Stages.TERMS))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert found.stopped is False

    once, more = peak(1), peak(4)
    a_pattern = dim.diff3d[0].nbytes
    # neighbours, weights and the like are an eighth of one
    assert (more - once) / (3 * dim.n_patterns) < 0.25 * a_pattern
