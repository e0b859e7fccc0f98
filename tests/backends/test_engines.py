"""What every engine has to do, whatever its framework: training, stopping, applying, and what goes wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_support import (
    ENGINES,
    FROZEN,
    QUICK,
    Bench,
    distance,
    has_convolution,
    relative_error,
    without_graphs,
)
from numpy.typing import NDArray

from ptychopinn_ptychodus import params
from ptychopinn_ptychodus.backends import CHECKPOINT_DIRECTORY, base, workflow
from ptychopinn_ptychodus.backends.base import Engine, EpochReport, ModelFileError, TrainingResult
from ptychopinn_ptychodus.backends.physics import initial_physics
from ptychopinn_ptychodus.backends.registry import guess_engine
from ptychopinn_ptychodus.backends.schedules import stepwise
from ptychopinn_ptychodus.config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import metrics
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData

pytestmark = pytest.mark.filterwarnings("ignore:.*run_functions_eagerly")


@pytest.fixture
def graphs() -> None:
    """For tests that want TensorFlow as users have it, traced."""


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest) -> Iterator[None]:
    if "graphs" in request.fixturenames or "bench" not in request.fixturenames:
        yield
        return
    with without_graphs(request.getfixturevalue("engine")):
        yield


@dataclass
class Finished:
    """A run that went through, with all that it told."""

    bench: Bench
    config: TrainingConfig
    execution: ExecutionConfig
    data: PtychoDataContainer
    result: TrainingResult
    reports: list[EpochReport]
    left_in_legacy: dict[str, Any]


@pytest.fixture(scope="module")
def finished(engine: Engine, scan: RawData, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    bench = Bench(engine, scan, tmp_path_factory.mktemp(engine.name))
    config, execution = bench.config(nepochs=3), replace(QUICK, scheduler="one_cycle", logger_backend="csv")
    data, reports = bench.groups(), list[EpochReport]()
    kept, params.cfg["N"] = dict(params.cfg), 999
    try:
        result = engine.train(
            data,
            bench.groups(count=6),
            config,
            execution,
            model_path=bench.model_path,
            on_epoch=reports.append,
        )
        left = dict(params.cfg)
    finally:
        params.cfg.clear()
        params.cfg.update(kept)
    return Finished(bench, config, execution, data, result, reports, left)


# ---------------------------------------------------------------------- a whole training


def test_every_epoch_is_reported(finished: Finished) -> None:
    reports, history = finished.reports, finished.result.history
    assert [(r.epoch, r.nepochs) for r in reports] == [(1, 3), (2, 3), (3, 3)]
    assert [r.train_loss for r in reports] == history["train_loss"]
    assert [r.val_loss for r in reports] == history["val_loss"]
    assert reports[0].seconds < reports[2].seconds
    assert reports[0].seconds_left == pytest.approx(2 * reports[0].seconds)
    assert reports[2].seconds_left == 0
    # 12 groups of one pattern, three times
    assert reports[2].patterns_per_second == pytest.approx(36 / reports[2].seconds, rel=1e-3)


def test_training_lowers_the_loss(finished: Finished) -> None:
    for losses in finished.result.history.values():
        assert losses[-1] < 0.95 * losses[0]  # of nine steps, from an empty object


def test_model_file_says_what_it_is(finished: Finished) -> None:
    result, bench = finished.result, finished.bench
    assert (result.model_path, result.stopped) == (bench.model_path, False)
    state = guess_engine(result.model_path).read_state(result.model_path)
    assert state.description.engine == bench.engine.name
    assert state.description.model == finished.config.model
    assert state.description.history == result.history
    assert state.description.data.input_scale == finished.data.input_scale
    assert state.training == finished.config
    assert {array.dtype for array in state.arrays.values()} == {np.dtype(np.float32)}


def test_checkpoints_of_a_finished_run_are_gone_and_its_log_stays(finished: Finished) -> None:
    assert not (finished.bench.directory / CHECKPOINT_DIRECTORY).exists()
    assert len(list(finished.bench.directory.rglob("metrics.csv"))) == 1


def test_configuration_and_legacy_dictionary_are_left_alone(finished: Finished) -> None:
    assert finished.left_in_legacy == {**params.cfg, "N": 999}
    assert finished.config == finished.bench.config(nepochs=3)
    assert finished.execution == replace(QUICK, scheduler="one_cycle", logger_backend="csv")


def test_prediction_is_an_object_under_a_probe_in_counts(finished: Finished) -> None:
    fractions: list[float] = []
    few = replace(finished.execution, inference_batch_size=5)
    bench, data = finished.bench, finished.data
    prediction = bench.engine.predict(bench.model_path, data, few, on_progress=fractions.append)
    assert prediction.patches.shape == (12, 1, 64, 64)
    assert prediction.patches.dtype == prediction.probe.dtype == np.complex64
    assert np.isfinite(prediction.patches).all()
    power = (np.abs(prediction.probe) ** 2).sum()
    assert power == pytest.approx(float(data.photons_per_pattern or 0), rel=0.2)
    assert fractions == pytest.approx([5 / 12, 10 / 12, 1.0])


def test_size_of_batches_does_not_matter_to_inference(finished: Finished) -> None:
    one, all_ = (
        finished.bench.patches(finished.data, replace(QUICK, inference_batch_size=n)) for n in (1, 50)
    )
    assert relative_error(one, all_) < 1e-4


def test_normalisation_is_the_models_own(finished: Finished) -> None:
    """Patterns twice as bright are another input, unless the beam was so: whatever their own mean says."""
    brighter = replace(finished.data, amplitude=2 * finished.data.amplitude)
    expected = finished.bench.patches(finished.data)
    assert relative_error(finished.bench.patches(brighter), expected) > 1e-3
    unknown = replace(brighter, exposures=None)
    assert unknown.input_scale == pytest.approx(finished.data.input_scale / 2)
    assert relative_error(finished.bench.patches(unknown), expected) > 1e-3


def test_inference_can_be_stopped(finished: Finished) -> None:
    answers = iter([False, True])
    bench = finished.bench
    with pytest.raises(InterruptedError):
        bench.engine.predict(
            bench.model_path,
            finished.data,
            replace(QUICK, inference_batch_size=4),
            should_stop=lambda: next(answers),
        )


def test_model_for_other_data_is_refused_with_both_sizes(
    finished: Finished, make_scan: Callable[..., RawData]
) -> None:
    larger = make_scan(count=3, n=128).generate_grouped_data(128, 4, 2)
    with pytest.raises(ModelFileError, match=r"N = 64.*N = 128"):
        finished.bench.patches(larger)
    with pytest.raises(ModelFileError, match=r"gridsize = 1.*gridsize = 2"):
        finished.bench.patches(finished.bench.groups(2))


def test_full_disk_leaves_the_earlier_model(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    path = finished.bench.model_path
    before, others = path.read_bytes(), set(path.parent.iterdir())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        finished.bench.engine.write_state(finished.bench.engine.read_state(path), path)
    assert path.read_bytes() == before
    assert set(path.parent.iterdir()) == others


# ---------------------------------------------------------------------- order and repetition


Batches = list[tuple[int, ...]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """Numbers of the groups in each batch that is gathered; batches may be gathered ahead of their turn."""
    batches: Batches = []
    original = PtychoDataContainer.batch

    def batch(self: PtychoDataContainer, indices: Any) -> NDArray[np.float32]:
        batches.append(tuple(np.asarray(indices).tolist()))
        return original(self, indices)

    monkeypatch.setattr(PtychoDataContainer, "batch", batch)
    return batches


def test_seed_repeats_the_shuffle_and_the_model(bench: Bench, seen: Batches) -> None:
    runs = []
    for seed in (0, 0, 1):
        seen.clear()
        history = bench.train(subsample_seed=seed, nepochs=2).history
        runs.append((history, sorted(seen[:3]), sorted(seen[3:]), bench.arrays()))
    first, again, other = runs
    assert first[:3] == again[:3]
    assert distance(first[3], again[3]) == 0
    assert first[1] != first[2] != other[2] != other[1] != first[1]
    for history, *epochs, _ in runs:
        assert history["train_loss"][1] < history["train_loss"][0]
        for batches in epochs:
            assert sorted(sum(batches, ())) == list(range(12))
    assert other[0] != first[0]


@pytest.mark.parametrize("batch_size", [4, 5, 100])
def test_sequential_sampling_keeps_the_order(bench: Bench, seen: Batches, batch_size: int) -> None:
    bench.train(sequential_sampling=True, batch_size=batch_size, subsample_seed=None)
    assert sorted(seen) == [tuple(range(n, min(n + batch_size, 12))) for n in range(0, 12, batch_size)]


def test_workers_change_nothing(bench: Bench) -> None:
    alone = bench.train().history
    workers = replace(QUICK, num_workers=2, prefetch_factor=2)
    assert bench.train(workers).history == alone
    assert relative_error(bench.patches(bench.groups(), workers), bench.patches(bench.groups())) < 1e-6


@pytest.mark.parametrize("seed", [0, None])
def test_deterministic_run(bench: Bench, seed: int | None) -> None:
    exact = replace(QUICK, deterministic=True)
    try:
        runs = [bench.train(exact, gridsize=2, subsample_seed=seed).history for _ in range(2)]
    finally:
        _allow_everything(bench.engine)
    assert (runs[0] == runs[1]) == (seed is not None)


def _allow_everything(engine: Engine) -> None:
    # both frameworks keep the wish for determinism for as long as the process lives
    if engine.name == "pytorch":
        import torch

        torch.use_deterministic_algorithms(False)
    else:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


# ---------------------------------------------------------------------- optimiser and schedules


def test_gradients_are_clipped(bench: Bench) -> None:
    bench.train(nepochs=1)
    free = bench.arrays()
    bench.train(FROZEN)
    clipped = bench.arrays()
    bench.train(replace(QUICK, learning_rate=1e-30))
    assert distance(clipped, bench.arrays()) < 1e-6 < 1e-3 < distance(free, clipped)


def test_accumulated_batches_are_one_step(bench: Bench) -> None:
    bench.train(FROZEN)
    start = bench.arrays()
    same: dict[str, Any] = {"sequential_sampling": True, "nepochs": 2}
    whole = bench.train(**same, batch_size=6).history["train_loss"]
    expected = bench.arrays()
    parts = bench.train(replace(QUICK, accum_steps=2), **same, batch_size=3).history["train_loss"]
    assert distance(bench.arrays(), expected) < 0.02 * distance(start, expected)
    assert parts == pytest.approx(whole, rel=1e-3)


def test_batches_left_over_at_the_end_of_an_epoch_are_learnt_from(bench: Bench) -> None:
    """Three batches an epoch, and sixteen to be accumulated: there would never be a step."""
    losses = bench.train(replace(QUICK, accum_steps=16), nepochs=4).history["train_loss"]
    assert losses[-1] < 0.99 * losses[0]


@pytest.fixture
def rates(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Learning rate of the network's weights at every optimiser step."""
    used: list[float] = []
    if engine.name == "pytorch":
        import torch

        step = torch.optim.Adam.step

        def recorded(self: Any, *arguments: Any, **options: Any) -> Any:
            used.append(self.param_groups[0]["lr"])
            return step(self, *arguments, **options)

        monkeypatch.setattr(torch.optim.Adam, "step", recorded)
        return used
    from ptychopinn_ptychodus.backends.tensorflow import module

    update = module._Adam._backend_update_step  # without graphs, it is called at every step

    def updated(self: Any, gradients: Any, variables: Any, learning_rate: Any) -> Any:
        used.append(float(learning_rate))
        return update(self, gradients, variables, learning_rate)

    monkeypatch.setattr(module._Adam, "_backend_update_step", updated)
    return used


@pytest.mark.parametrize("scheduler", ["cosine", "one_cycle"])
@pytest.mark.parametrize(("accumulated", "steps"), [(1, 9), (2, 6)])
def test_rate_follows_the_schedule(
    bench: Bench, rates: list[float], scheduler: str, accumulated: int, steps: int
) -> None:
    bench.train(replace(QUICK, scheduler=scheduler, accum_steps=accumulated), nepochs=3)
    factor = stepwise(scheduler, steps)
    assert factor is not None
    assert rates == pytest.approx([QUICK.learning_rate * factor(step) for step in range(steps)], rel=1e-5)


def test_plateau_halves_the_rate_down_to_its_floor(bench: Bench, rates: list[float]) -> None:
    """Nothing improves: the rate is halved after every three epochs."""
    stuck = replace(FROZEN, scheduler="plateau", learning_rate=1e-3)
    data = bench.groups(count=2)
    losses = bench.train(stuck, data=data, validation=data, nepochs=17).history["val_loss"]
    assert max(losses) == min(losses), "something improves, so this test shows nothing"
    expected = [1e-3] * 4 + [5e-4] * 3 + [2.5e-4] * 3 + [1.25e-4] * 3 + [1e-4] * 4
    assert rates == pytest.approx(expected, rel=1e-5)


def test_rate_stays_where_it_is_told_to(bench: Bench, rates: list[float]) -> None:
    bench.train(nepochs=2)
    assert rates == pytest.approx([QUICK.learning_rate] * 6)


def test_early_stopping_ends_training_that_does_not_improve(bench: Bench) -> None:
    stuck = replace(FROZEN, early_stop_patience=2)
    data = bench.groups(count=2)
    assert len(bench.train(stuck, data=data, validation=data, nepochs=30).history["train_loss"]) == 3


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_mixed_precision_trains_and_infers(
    bench: Bench, graphs: None, precision: str, architecture: str
) -> None:
    mixed = replace(QUICK, precision=precision)
    data = bench.groups(2, count=4)
    changes: dict[str, Any] = {
        "gridsize": 2,
        "architecture": architecture,
        "batch_size": 2,
        "sequential_sampling": True,
    }
    if not has_convolution(bench.engine, precision):
        with pytest.raises(ValueError, match=f"precision = '{precision}'.*Choose '32-true'"):
            bench.train(mixed, data=data, nepochs=1, **changes)
        return
    losses = bench.train(mixed, data=data, nepochs=3, **changes).history["train_loss"]
    assert losses[-1] < losses[0]
    exact, rough = bench.patches(data), bench.patches(data, mixed)
    assert 0 < np.abs(rough - exact).mean() < 0.05 * np.abs(exact).mean()


# ---------------------------------------------------------------------- what is learnt, and from what


def test_objective_is_the_weighted_sum(bench: Bench) -> None:
    def loss(**weights: Any) -> float:
        return float(bench.train(FROZEN, **weights, batch_size=12).history["train_loss"][0])

    nll, mae = loss(), loss(nll_weight=0.0, mae_weight=1.0)
    smooth = loss(realspace_weight=1.0) - nll
    assert min(nll, mae, smooth) > 0
    total = loss(nll_weight=0.5, mae_weight=2.0, realspace_weight=3.0)
    assert total == pytest.approx(0.5 * nll + 2 * mae + 3 * smooth, rel=1e-4)


def test_supervised_training_approaches_the_known_object(bench: Bench) -> None:
    supervised: dict[str, Any] = {"model_type": "supervised", "nll_weight": 0.0, "realspace_mae_weight": 1.0}
    losses = bench.train(nepochs=4, **supervised).history["train_loss"]
    assert losses[-1] < 0.9 * losses[0]
    with pytest.raises(ValueError, match="objectGuess"):
        bench.train(data=bench.groups(object_guess=None), **supervised)


@pytest.mark.parametrize("trainable", [True, False])
def test_probe_and_scale_move_if_they_may(bench: Bench, trainable: bool) -> None:
    changes: dict[str, Any] = {
        "probe_trainable": trainable,
        "intensity_scale_trainable": trainable,
        "probe_modes": 3,
    }
    start = initial_physics(bench.groups(), bench.config(**changes))
    bench.train(**changes)
    arrays = bench.arrays()
    assert arrays["probe_planes"].shape == (3, 64, 64, 2)
    assert bool((arrays["probe_planes"] != start.probe_planes).any()) == trainable
    assert bool(arrays["log_scale"] != np.float32(start.log_scale)) == trainable
    np.testing.assert_array_equal(arrays["good_pixels"], start.good_pixels)
    prediction = bench.engine.predict(bench.model_path, bench.groups(), QUICK)
    assert prediction.probe.shape == (3, 64, 64)


def test_bad_pixels_take_no_part(bench: Bench) -> None:
    """By way of a network that looks at good pixels alone: nothing may change."""
    bad = np.zeros((64, 64), bool)
    bad[30:34, 20:44] = True
    data = bench.groups(2, count=4, bad_pixels=bad)
    spoiled = replace(data, amplitude=np.where(bad, np.float32(77), data.amplitude))
    changes: dict[str, Any] = {
        "gridsize": 2,
        "architecture": "unrolled",
        "mae_weight": 1.0,
        "realspace_weight": 0.1,
    }
    expected = bench.train(data=data, **changes).history
    patches = bench.patches(data)
    assert bench.train(data=spoiled, **changes).history == expected
    np.testing.assert_array_equal(bench.patches(spoiled), patches)
    seen = replace(data, bad_pixels=np.zeros_like(bad))
    assert bench.train(data=seen, **changes).history != expected


@pytest.mark.parametrize(
    ("n", "gridsize", "architecture"),
    [
        (64, 3, "cnn"),
        (64, 3, "unrolled"),
        (128, 2, "cnn"),
        (256, 1, "cnn"),
        (128, 1, "unrolled"),
        (96, 2, "unrolled_fourier"),
    ],
)
def test_every_size_trains_and_infers(
    bench: Bench, make_scan: Callable[..., RawData], n: int, gridsize: int, architecture: str
) -> None:
    bench.scan = make_scan(count=4, n=n, step=4.0)
    data = bench.groups(gridsize, count=2)
    result = bench.train(data=data, N=n, gridsize=gridsize, architecture=architecture, batch_size=2)
    assert math.isfinite(result.history["train_loss"][0])
    assert np.isfinite(bench.patches(data)).all()


# ---------------------------------------------------------------------- the network while it learns


def test_looking_at_the_network_after_every_epoch_does_not_change_what_it_learns(
    bench: Bench, tmp_path: Path
) -> None:
    data, seen = bench.groups(), list[NDArray[np.complex64]]()

    def preview(report: EpochReport, apply: base.Apply) -> None:
        prediction = apply(data.subset([3, 1]))
        assert report.epoch == len(seen) + 1
        assert prediction.probe.shape == data.probe.shape
        seen.append(prediction.patches)

    bench.train(data=data, validation=bench.groups(count=4), nepochs=3, hooks={"preview": preview})
    watched = bench.arrays()
    assert [patches.shape for patches in seen] == [(2, 1, 64, 64)] * 3
    assert relative_error(seen[0], seen[1]) > 1e-3
    # the last epoch is the best one: what is left is what was seen
    np.testing.assert_allclose(bench.patches(data)[[3, 1]], seen[2], rtol=0, atol=1e-5)

    bench.train(data=data, validation=bench.groups(count=4), nepochs=3)
    assert distance(watched, bench.arrays()) == 0


def test_every_batch_is_told_and_those_that_a_preview_is_applied_to_are_not(bench: Bench) -> None:
    """Three training batches, then two of validation, in each epoch."""
    batches: list[int] = []
    epochs: list[int] = []
    data = bench.groups()

    def preview(report: EpochReport, apply: base.Apply) -> None:
        assert len(batches) == 5 * report.epoch
        apply(data)
        assert len(batches) == 5 * report.epoch

    hooks = {
        "on_batch": lambda: batches.append(1),
        "on_epoch": lambda report: epochs.append(len(batches)),
        "should_stop": lambda: False,
        "preview": preview,
    }
    bench.train(data=data, validation=bench.groups(count=8), nepochs=2, hooks=hooks)
    assert epochs == [5, 10]


def test_stop_while_the_network_is_looked_at_keeps_what_it_has_just_learnt(bench: Bench) -> None:
    looking, seen = False, list[NDArray[np.complex64]]()
    data = bench.groups()

    def preview(report: EpochReport, apply: base.Apply) -> None:
        nonlocal looking
        assert list((bench.directory / CHECKPOINT_DIRECTORY).iterdir()), "its best state is not on disk yet"
        if report.epoch == 2:
            seen.append(apply(data).patches)
            looking = True
            apply(data)
            raise AssertionError("it should have been stopped")

    hooks = {"preview": preview, "should_stop": lambda: looking}
    result = bench.train(data=data, nepochs=5, hooks=hooks)
    assert result.stopped
    first, second = result.history["train_loss"]
    assert second < first  # so that the second epoch is the best
    np.testing.assert_allclose(bench.patches(data), seen[0], rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- best states, stops and failures


def test_best_state_is_kept_and_not_the_last(bench: Bench) -> None:
    """Validation turns to noise after two epochs: the model is the one that two epochs would have given."""
    noise = np.random.default_rng(0).uniform(0, 300, (64, 64))
    validation = bench.groups(count=6)
    spoiled = replace(validation, amplitude=validation.amplitude.copy())

    def spoil(report: EpochReport) -> None:
        if report.epoch == 2:
            spoiled.amplitude[:] = noise

    losses = bench.train(validation=spoiled, nepochs=4, hooks={"on_epoch": spoil}).history["val_loss"]
    kept = bench.arrays()
    assert np.argmin(losses) == 1, "training did not get worse, so this test shows nothing"
    assert len(losses) == 4
    bench.train(validation=validation, nepochs=2)
    assert distance(kept, bench.arrays()) == 0


@pytest.mark.parametrize("mode", ["min", "max"])
def test_killed_run_leaves_its_best_states_which_open_alone(bench: Bench, mode: str) -> None:
    seen: list[float] = []

    def fail(report: EpochReport) -> None:
        seen.append(report.train_loss)
        if report.epoch == 5:
            raise MemoryError("the plug was pulled")

    execution = replace(QUICK, checkpoint_save_top_k=2, checkpoint_mode=mode)
    with pytest.raises(MemoryError):
        bench.train(execution, nepochs=6, hooks={"on_epoch": fail})
    assert not bench.model_path.exists()
    left = sorted((bench.directory / CHECKPOINT_DIRECTORY).iterdir())
    assert len(left) == 2
    epochs = []
    for path in left:
        engine = guess_engine(path)
        assert engine.name == bench.engine.name
        epochs.append(len(engine.describe(path).history["train_loss"]))
        assert np.isfinite(engine.predict(path, bench.groups(count=2), QUICK).patches).all()
    # those of the five that were seen: an epoch is told of when its state is on disk
    ranked = [1 + int(epoch) for epoch in np.argsort(seen)]
    assert epochs == sorted(ranked[:2] if mode == "min" else ranked[-2:])


def test_without_checkpoints_the_last_state_is_the_model(bench: Bench) -> None:
    bench.train(replace(QUICK, checkpoint_mode="max"), nepochs=2)
    worst = bench.arrays()
    unkept = replace(QUICK, checkpoint_mode="max", enable_checkpointing=False)
    directories: list[bool] = []
    bench.train(
        unkept,
        nepochs=2,
        hooks={"on_epoch": lambda _: directories.append((bench.directory / CHECKPOINT_DIRECTORY).exists())},
    )
    assert directories == [False, False]
    assert distance(bench.arrays(), worst) > 0


@pytest.mark.parametrize("after", [0, 2, 4, 7])
def test_stop_ends_training_at_once_and_keeps_a_usable_model(bench: Bench, after: int) -> None:
    """Three training batches, then two of validation: in either, and before the first epoch is over."""
    calls: list[int] = []
    reports: list[EpochReport] = []

    def should_stop() -> bool:
        calls.append(1)
        return len(calls) > after

    data = bench.groups()
    hooks = {"should_stop": should_stop, "on_epoch": reports.append}
    result = bench.train(data=data, validation=bench.groups(count=8), nepochs=5, hooks=hooks)
    assert result.stopped
    # nothing more is done, not even a validation on the way out
    assert len(calls) == after + 1
    assert len(reports) == len(result.history["train_loss"]) == after // 5
    assert np.isfinite(bench.patches(data)).all()
    assert not (bench.directory / CHECKPOINT_DIRECTORY).exists()


def test_stopped_training_keeps_the_best_state_so_far(bench: Bench) -> None:
    bench.train(validation=bench.groups(count=6), nepochs=1)
    expected = bench.arrays()
    reports: list[EpochReport] = []
    hooks = {"on_epoch": reports.append, "should_stop": lambda: len(reports) == 1}
    result = bench.train(validation=bench.groups(count=6), nepochs=5, hooks=hooks)
    assert result.stopped
    assert distance(bench.arrays(), expected) == 0


def test_diverged_training_says_what_to_lower(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match=r"diverged.*learning rate.*gradient_clip_val"):
        bench.train(replace(QUICK, learning_rate=1e30), nepochs=2)


def test_missing_accelerator_lists_those_that_are_there(bench: Bench) -> None:
    if bench.engine.accelerators() != ["cpu"]:
        pytest.skip("this machine has an accelerator, the absence of which is tested")
    absent = replace(QUICK, accelerator="cuda")
    with pytest.raises(RuntimeError, match=r"'cuda'.*cpu"):
        bench.train(absent)
    bench.train()
    with pytest.raises(RuntimeError, match=r"'cuda'.*cpu"):
        bench.patches(bench.groups(), absent)


@pytest.mark.parametrize(("changes", "message"), [({"N": 128}, "N = 128"), ({"gridsize": 2}, "gridsize = 2")])
def test_data_that_do_not_fit_the_model_are_refused(
    bench: Bench, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bench.train(data=bench.groups(), **changes)


def test_test_data_in_other_groups_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="gridsize = 1, the training data"):
        bench.train(gridsize=2, validation=bench.groups(1))


def test_missing_logger_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for = "ptychopinn_ptychodus.backends.framework.find_spec"
    monkeypatch.setattr(looked_for, lambda name: None if name == "tensorboard" else find_spec(name))
    with pytest.raises(RuntimeError, match="pip install tensorboard"):
        bench.train(replace(QUICK, logger_backend="tensorboard"))


# ---------------------------------------------------------------------- the workflow that scripts call


def _mapping(scan: RawData, channels: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(scan.xcoords), (6, channels))
    positions = np.stack((scan.xcoords, scan.ycoords), -1)[chosen]
    relative = (positions - positions.mean(1, keepdims=True)).transpose(0, 2, 1)[:, None]
    return {"X": np.moveaxis(scan.diff3d[chosen], 1, -1), "coords_relative": relative}


def test_whole_run_has_the_contracts_structure(bench: Bench, graphs: None) -> None:
    config = bench.config(gridsize=2, nepochs=1)
    train, test = bench.scan.split(0.3, seed=0)
    assert test is not None
    amplitude, phase, results = bench.engine.workflow("run_cdi_example")(
        train, test, config, True, False, True, 20, do_stitching=True, execution_config=QUICK
    )
    assert {"history", "train_container", "test_container", "models", "recon_amp", "recon_phase"} <= set(
        results
    )
    assert {"autoencoder", "diffraction_to_obj"} <= set(results["models"])
    assert [len(losses) for losses in results["history"].values()] == [1, 1]
    # what was stitched is the test data: the central 20 pixels of patches, transposed and then mirrored
    container = results["test_container"]
    prediction = bench.engine.predict(results["model_path"], container, QUICK)
    expected = prediction.stitch(container, window=20).object.T[:, ::-1]
    np.testing.assert_allclose(results["obj"], expected, atol=1e-5)
    np.testing.assert_array_equal(amplitude, np.abs(results["obj"]))
    np.testing.assert_array_equal(phase, np.angle(results["obj"]))
    np.testing.assert_array_equal(results["recon_amp"], amplitude)
    with pytest.raises(ValueError, match="M = 65"):
        bench.engine.workflow("run_cdi_example")(train, None, config, M=65, execution_config=QUICK)


def test_results_hold_the_very_objects_that_were_handed_in(bench: Bench) -> None:
    mapping, groups = _mapping(bench.scan), bench.groups(2)
    train, config = bench.engine.workflow("train_cdi_model"), bench.config(gridsize=2)
    for first, second in ((mapping, groups), (groups, mapping)):
        results = train(first, second, config, QUICK)
        assert results["train_container"] is first
        assert results["test_container"] is second
        assert [len(losses) for losses in results["history"].values()] == [1, 1]


def test_run_without_stitching_has_no_images(bench: Bench) -> None:
    amplitude, phase, results = bench.engine.workflow("run_cdi_example")(
        bench.scan, None, bench.config(), execution_config=QUICK
    )
    assert amplitude is phase is None
    assert "obj" not in results
    assert results["test_container"] is None
    assert results["history"]["val_loss"] == []


def test_whole_run_shows_the_object(bench: Bench, make_scan: Callable[..., RawData]) -> None:
    scan = make_scan(count=10)
    changes = {"architecture": "unrolled", "gridsize": 2, "nepochs": 2, "n_groups": 100, "batch_size": 10}
    schedule = replace(QUICK, scheduler="one_cycle")
    amplitude, _, results = bench.engine.workflow("run_cdi_example")(
        scan, None, bench.config(**changes), do_stitching=True, M=0, execution_config=schedule
    )
    truth = scan.objectGuess
    assert truth is not None
    x0 = int(np.floor(scan.xcoords.min()) - 32)
    mask = np.zeros(truth.shape, bool)
    mask[30:90, 30:90] = True
    canvas: np.ndarray = np.ones(truth.shape, complex)
    h, w = (min(canvas.shape[0] - x0, amplitude.shape[0]), min(canvas.shape[1] - x0, amplitude.shape[1]))
    canvas[x0 : x0 + h, x0 : x0 + w] = results["obj"][:h, :w]
    assert metrics.compare(canvas, truth, mask).complex_correlation_centred > 0.8


def test_plain_mapping_trains_without_a_probe_and_says_what_it_assumed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    config = bench.config(gridsize=2, nphotons=3e5)
    train = bench.engine.workflow("train_cdi_model")
    results = train(_mapping(bench.scan), None, config, QUICK)
    assert "idealised disk" in caplog.text
    # the mapping does not say how many photons there were: the configuration does
    assert results["models"]["autoencoder"].data_config.photons_per_pattern == 3e5
    with pytest.raises(ValueError, match="coords_offsets"):
        bench.engine.workflow("run_cdi_example")(
            _mapping(bench.scan), None, config, do_stitching=True, execution_config=QUICK
        )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("X", None, "'X'"),
        ("coords_relative", None, "'coords_relative'"),
        ("X", np.ones((2, 64, 32, 1)), r"\(2, 64, 32, 1\)"),
        ("X", -np.ones((6, 64, 64, 4)), "negative"),
        ("X", np.full((6, 64, 64, 4), np.nan), "NaN"),
        ("X", np.ones((6, 64, 64, 3)), "3 channels"),
        ("coords_relative", np.zeros((6, 2, 4)), r"\(6, 1, 2, 4\)"),
        ("probe", np.zeros((64, 64)), "probe"),
        ("Y", np.ones((6, 64, 64, 1)), "'Y'"),
    ],
)
def test_bad_mapping_is_refused_by_key(scan: RawData, key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        workflow.as_container(_mapping(scan) | {key: value}, TrainingConfig())


def test_data_files_of_the_configuration_are_read(bench: Bench) -> None:
    train, test = bench.scan.split(0.25, seed=0)
    assert test is not None
    files = {"train_data_file": bench.directory / "a.npz", "test_data_file": bench.directory / "b.npz"}
    train.to_file(files["train_data_file"])
    test.to_file(files["test_data_file"])
    train_cdi_model = bench.engine.workflow("train_cdi_model")
    results = train_cdi_model(None, None, bench.config(**files), QUICK)
    np.testing.assert_allclose(results["train_container"].amplitude, train.diff3d)
    assert len(results["history"]["val_loss"]) == 1
    with pytest.raises(FileNotFoundError, match="train_data_file"):
        train_cdi_model(None, None, bench.config(), QUICK)


def test_model_left_by_a_run_opens_by_directory_and_by_file(bench: Bench) -> None:
    config = bench.config()
    results = bench.engine.workflow("train_cdi_model")(bench.scan, None, config, QUICK)
    path, open_ = results["model_path"], bench.engine.workflow("load_inference_bundle")
    assert path.parent == bench.directory
    _, values = open_(bench.directory, config)
    assert values["data_config"]["input_scale"] == results["train_container"].input_scale
    assert values["history"] == results["history"]
    for name in ("diffraction_to_obj", "autoencoder"):
        assert open_(path, model_name=name)[1] == values
    with pytest.raises(FileNotFoundError, match=path.name.replace(".", r"\.")):
        open_(bench.directory / "checkpoints")
    with pytest.raises(ModelFileError, match="gridsize = 2"):
        open_(path, bench.config(gridsize=2))
    with pytest.raises(ModelFileError, match="N = 128"):
        open_(path, InferenceConfig(model=replace(config.model, N=128)))
    with pytest.raises(ValueError, match=r"'encoder'.*'autoencoder'"):
        open_(path, model_name="encoder")


def test_inference_configuration_is_all_that_a_reconstruction_needs(bench: Bench) -> None:
    bench.engine.workflow("train_cdi_model")(bench.scan, None, bench.config(gridsize=2), QUICK)
    bench.scan.to_file(bench.directory / "test.npz")
    config = InferenceConfig(
        model_path=bench.directory,
        test_data_file=bench.directory / "test.npz",
        output_dir=bench.directory / "result",
        n_subsample=30,
        n_groups=20,
        subsample_seed=0,
        debug=True,
    )
    reconstruct = bench.engine.workflow("reconstruct_cdi")
    object_, results = reconstruct(config, QUICK)
    assert results["patches"].shape == (20, 4, 64, 64)
    with np.load(bench.directory / "result" / "reconstruction.npz") as file:
        np.testing.assert_array_equal(file["object"], object_)
        assert file["origin"][0] == pytest.approx(bench.scan.xcoords.min() - 32, abs=1)
    with pytest.raises(FileNotFoundError, match="test_data_file"):
        reconstruct(replace(config, test_data_file=None))


@pytest.fixture
def trained_pairs(bench: Bench) -> Bench:
    """A model of groups of four, and the scan that it learnt from as ``test.npz``, beside it."""
    bench.engine.workflow("train_cdi_model")(bench.scan, None, bench.config(gridsize=2), QUICK)
    bench.scan.to_file(bench.directory / "test.npz")
    return bench


def test_what_an_inference_configuration_asks_for_holds_wherever_it_goes(trained_pairs: Bench) -> None:
    bench = trained_pairs
    data: dict[str, Any] = {
        "test_data_file": bench.directory / "test.npz",
        "output_dir": bench.directory / "result",
    }
    own = bench.config(gridsize=2).model

    def load(**fields: Any) -> dict[str, Any]:
        config = InferenceConfig(**data | fields)
        values: dict[str, Any] = bench.engine.workflow("load_inference_bundle")(bench.directory, config)[1]
        return values

    def reconstruct(**fields: Any) -> dict[str, Any]:
        few: dict[str, Any] = {"model_path": bench.directory, "n_groups": 4, "subsample_seed": 0}
        config = InferenceConfig(**few | data | fields)
        values: dict[str, Any] = bench.engine.workflow("reconstruct_cdi")(config, QUICK)[1]
        return values

    other = next(name for name in ENGINES if name != bench.engine.name)
    for function in (load, reconstruct):
        # what is left at its default is not asked for
        for model in (ModelConfig(), own, replace(own, n_filters_scale=2)):
            function(model=model)
        for model, field in (
            (replace(own, gridsize=1), "gridsize = 1"),
            (replace(own, N=128), "N = 128"),
            (replace(own, n_filters_scale=3), "n_filters_scale = 3"),
            (replace(own, object_big=False), "object_big = False"),
        ):
            with pytest.raises(ModelFileError, match=rf"InferenceConfig\.model\.{field}"):
                function(model=model)
        if other != InferenceConfig.backend:
            with pytest.raises(ValueError, match=rf"InferenceConfig\.backend = '{other}'"):
                function(backend=other)
        function(backend=bench.engine.name)
    with pytest.raises(ValueError, match=r"InferenceConfig\.model_path = .*elsewhere"):
        load(model_path=bench.directory / "elsewhere")
    # whoever applies the model finds how it was to be applied
    values = load(model_path=bench.directory, n_groups=5, neighbor_count=7, debug=True)
    assert values["inference_config"]["n_groups"] == 5
    assert values["inference_config"]["neighbor_count"] == 7
    assert values["inference_config"]["debug"] is True


def test_mapping_is_learnt_from_by_as_many_groups_as_are_asked_for(bench: Bench) -> None:
    groups = bench.groups(gridsize=2, count=9)
    mapping, train = dict(groups), bench.engine.workflow("train_cdi_model")

    def scale(**fields: Any) -> float:
        results = train(mapping, None, bench.config(gridsize=2, **fields), QUICK)
        return float(results["models"]["autoencoder"].data_config.input_scale)

    # the statistics that a model keeps are those of what it has learnt from
    found = []
    for fields, chosen in (
        ({"n_groups": 2, "sequential_sampling": True}, slice(2)),
        ({"n_subsample": 15, "sequential_sampling": True}, slice(3)),
        ({"n_groups": 100}, slice(None)),
    ):
        energy = (groups.X[chosen] ** 2)[:, ~groups.bad_pixels].sum(1).mean(dtype=np.float64)
        found.append(scale(**fields))
        assert found[-1] == pytest.approx(32 / np.sqrt(energy), rel=1e-5)
    assert len(set(found)) == 3
    with pytest.raises(ValueError, match="n_subsample = 3"):
        scale(n_subsample=3)


def test_sequential_sampling_is_repeatable_without_a_seed(bench: Bench) -> None:
    def run() -> tuple[dict[str, Any], Any]:
        config = bench.config(gridsize=2, subsample_seed=None, sequential_sampling=True, n_subsample=30)
        results = bench.engine.workflow("train_cdi_model")(bench.scan, None, config, QUICK)
        return results["history"], bench.engine.read_state(results["model_path"]).arrays

    (first, arrays), (second, again) = run(), run()
    assert first == second
    assert distance(arrays, again) == 0
