"""Trainings that go on where they were interrupted, or begin with a model; with every engine."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_support import FROZEN, QUICK, Bench, distance, relative_error, without_graphs

from ptychopinn_ptychodus.backends import CHECKPOINT_DIRECTORY
from ptychopinn_ptychodus.backends.base import (
    Beginning,
    EpochReport,
    ModelFileError,
    TrainingResult,
    TrainingState,
)
from ptychopinn_ptychodus.backends.training_state import read_state, state_path
from ptychopinn_ptychodus.config import ExecutionConfig
from ptychopinn_ptychodus.data.joining import joined
from ptychopinn_ptychodus.data.raw import RawData

pytestmark = pytest.mark.filterwarnings("ignore:.*run_functions_eagerly")

NETWORK: dict[str, Any] = {"architecture": "unrolled", "gridsize": 2, "probe_trainable": True}
SMALL: dict[str, Any] = {"architecture": "cnn", "gridsize": 1}
LONG: dict[str, Any] = {**NETWORK, "nepochs": 3, "batch_size": 2}
CLIPPED = replace(QUICK, gradient_clip_val=1.0)


class Pulled(MemoryError):
    """The plug."""


@pytest.fixture(autouse=True)
def _quick(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # every epoch has a state here, however short it is
    monkeypatch.setattr("ptychopinn_ptychodus.backends.beginning._SHARE", 1)
    with without_graphs(bench.engine):
        yield


@pytest.fixture
def elsewhere(bench: Bench) -> Bench:
    """Where another training leaves its files."""
    directory = bench.directory / "elsewhere"
    directory.mkdir()
    return replace(bench, directory=directory)


def train(bench: Bench, execution: ExecutionConfig, hooks: Any = None, **changes: Any) -> TrainingResult:
    """Train on six groups, three steps of two, and validate with two."""
    asked = LONG | changes
    data = asked.pop("data", None) or bench.groups(asked["gridsize"], 6)
    validation = bench.groups(asked["gridsize"], 2)
    return bench.train(execution, data=data, validation=validation, hooks=hooks, **asked)


def interrupted(bench: Bench, execution: ExecutionConfig, after: int, **changes: Any) -> TrainingState:
    """Train, and die after so many epochs."""

    def pull(report: EpochReport) -> None:
        if report.epoch == after:
            raise Pulled

    beginning = Beginning(kept=state_path(bench.model_path))
    with pytest.raises(Pulled):
        train(bench, execution, {"beginning": beginning, "on_epoch": pull}, **changes)
    return read_state(state_path(bench.model_path))


def resumed(
    bench: Bench, state: TrainingState, execution: ExecutionConfig, hooks: Any = None, **changes: Any
) -> TrainingResult:
    beginning = Beginning(state=state, kept=state_path(bench.model_path))
    return train(bench, execution, {"beginning": beginning, **(hooks or {})}, **changes)


@pytest.mark.parametrize(("scheduler", "network"), [("one_cycle", {}), ("plateau", SMALL)])
def test_a_resumed_training_ends_as_one_that_was_not_interrupted(
    bench: Bench, elsewhere: Bench, scheduler: str, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if scheduler == "plateau":  # so that it has acted before, and acts after
        for module in ("lightning.module", "tensorflow.training"):
            monkeypatch.setattr(f"ptychopinn_ptychodus.backends.{module}.PLATEAU_PATIENCE", 0)
    execution = replace(CLIPPED, scheduler=scheduler, learning_rate=5e-3, accum_steps=2)
    whole = train(bench, execution, **network)
    state = interrupted(elsewhere, execution, after=2, **network)
    assert state.epochs == 2
    assert state.history["val_loss"] == whole.history["val_loss"][:2]
    reports: list[EpochReport] = []
    result = resumed(elsewhere, state, execution, {"on_epoch": reports.append}, **network)
    assert [report.epoch for report in reports] == [3]
    assert all(report.seconds > state.seconds for report in reports)
    for name, losses in whole.history.items():
        np.testing.assert_allclose(result.history[name], losses, rtol=1e-6, err_msg=name)
    assert distance(elsewhere.arrays(), bench.arrays()) < 1e-6
    # a training that is complete leaves nothing to go on with
    assert not (elsewhere.directory / CHECKPOINT_DIRECTORY).exists()


def test_the_best_state_is_remembered_across_the_interruption(bench: Bench, elsewhere: Bench) -> None:
    """Also where its file is gone: a training that is stopped has made it the model."""
    upwards = replace(
        CLIPPED, scheduler="cosine", checkpoint_mode="max", checkpoint_monitor_metric="train_loss"
    )
    whole = train(bench, upwards, **SMALL)
    reports: list[EpochReport] = []
    kept = state_path(elsewhere.model_path)
    hooks = {
        "beginning": Beginning(kept=kept),
        "on_epoch": reports.append,
        "should_stop": lambda: len(reports) == 2,
    }
    stopped = train(elsewhere, upwards, hooks, **SMALL)
    assert stopped.stopped
    assert elsewhere.model_path.is_file()
    assert list(kept.parent.iterdir()) == [kept]
    result = resumed(elsewhere, read_state(kept), upwards, **SMALL)
    assert result.history["train_loss"] == pytest.approx(whole.history["train_loss"], rel=1e-6)
    assert distance(elsewhere.arrays(), bench.arrays()) < 1e-6


def test_a_training_that_was_begun_otherwise_is_not_gone_on_with(bench: Bench) -> None:
    state = interrupted(bench, CLIPPED, after=1)
    with pytest.raises(ValueError, match=r"TrainingConfig\.nepochs = 9 was 3 then"):
        resumed(bench, state, CLIPPED, nepochs=9)
    with pytest.raises(ValueError, match=r"ModelConfig\.n_filters_scale = 2 was 1 then"):
        resumed(bench, state, CLIPPED, n_filters_scale=2)
    with pytest.raises(ValueError, match=r"ExecutionConfig\.learning_rate = 0\.0001 was 0\.002 then"):
        resumed(bench, state, replace(CLIPPED, learning_rate=1e-4))
    with pytest.raises(ValueError, match="begun with the engine 'abacus'"):
        resumed(bench, replace(state, engine="abacus"), CLIPPED)
    with pytest.raises(ValueError, match="begun with other data"):
        resumed(bench, state, CLIPPED, data=bench.groups(2, 5))
    # how it is computed is free
    assert resumed(bench, state, replace(CLIPPED, pin_memory=False), {"should_stop": lambda: True}).stopped
    assert state_path(bench.model_path).is_file()


def test_a_state_never_takes_the_room_that_the_model_needs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage(bench.directory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    kept = state_path(bench.model_path)
    existed: list[bool] = []
    hooks = {"beginning": Beginning(kept=kept), "on_epoch": lambda _: existed.append(kept.exists())}
    with caplog.at_level(logging.WARNING):
        train(bench, CLIPPED, hooks, nepochs=2)
    assert existed == [False] * 2
    assert bench.model_path.is_file()
    assert sum("was not kept" in record.message for record in caplog.records) == 1


def test_a_new_training_has_no_use_for_the_state_of_an_earlier_one(bench: Bench) -> None:
    interrupted(bench, CLIPPED, after=1)
    kept = state_path(bench.model_path)
    hooks = {"beginning": Beginning(kept=kept), "should_stop": lambda: True}
    assert train(bench, CLIPPED, hooks).stopped
    assert not kept.exists()


def test_a_training_whose_draws_differ_each_time_has_no_state(bench: Bench) -> None:
    kept = state_path(bench.model_path)
    existed: list[bool] = []
    hooks = {"beginning": Beginning(kept=kept), "on_epoch": lambda _: existed.append(kept.exists())}
    train(bench, CLIPPED, hooks, nepochs=1, subsample_seed=None)
    assert existed == [False]


# ---- from a model -----------------------------------------------------------------------------------------


def test_a_training_begins_with_network_and_probe_of_a_model_and_the_statistics_of_the_data(
    bench: Bench, elsewhere: Bench, make_scan: Callable[..., RawData]
) -> None:
    """Nothing moves here, so that what it begins with is what it leaves."""
    bench.train(replace(CLIPPED, learning_rate=5e-3), **NETWORK, probe_modes=2)
    model = bench.engine.read_state(bench.model_path)
    dimmer = make_scan(photons=1e4, seed=1)
    data = dimmer.generate_grouped_data(64, 8, 12, gridsize=2, seed=0)
    elsewhere.train(FROZEN, data=data, hooks={"beginning": Beginning(model=model)}, **NETWORK, probe_modes=3)
    begun = elsewhere.engine.read_state(elsewhere.model_path)
    for name, array in model.arrays.items():
        if name.startswith("network."):
            np.testing.assert_allclose(begun.arrays[name], array, atol=1e-6, err_msg=name)
    assert begun.description.data.photons_per_pattern == pytest.approx(dimmer.photons_per_pattern)
    assert begun.description.data.input_scale == pytest.approx(data.input_scale)
    learnt, probe = model.arrays["probe_planes"], begun.arrays["probe_planes"]
    assert probe.shape == (3, 64, 64, 2)
    factor = (learnt[0] * probe[0]).sum() / (learnt[0] ** 2).sum()
    assert relative_error(probe[0], factor * learnt[0]) < 1e-4
    photons = (np.abs(elsewhere.engine.predict(elsewhere.model_path, data, QUICK).probe) ** 2).sum()
    assert photons == pytest.approx(dimmer.photons_per_pattern, rel=1e-3)


def test_of_a_model_for_any_probe_the_network_is_taken(bench: Bench, elsewhere: Bench) -> None:
    data = bench.groups(2)
    fixed = {**NETWORK, "probe_trainable": False, "intensity_scale_trainable": False}
    bench.train(replace(CLIPPED, learning_rate=5e-3), data=joined([data]), **fixed)
    model = bench.engine.read_state(bench.model_path)
    assert model.description.data.any_probe
    elsewhere.train(FROZEN, data=data, **NETWORK)
    fresh = elsewhere.arrays()
    elsewhere.train(FROZEN, data=data, hooks={"beginning": Beginning(model=model)}, **NETWORK)
    begun = elsewhere.arrays()
    assert not elsewhere.engine.describe(elsewhere.model_path).data.any_probe
    np.testing.assert_allclose(begun["probe_planes"], fresh["probe_planes"], atol=1e-6)
    name = "network.step"
    np.testing.assert_allclose(begun[name], model.arrays[name], atol=1e-6)
    assert not np.allclose(fresh[name], model.arrays[name], atol=1e-4)


def test_a_model_that_does_not_fit_is_refused_by_what_differs(
    bench: Bench, make_scan: Callable[..., RawData]
) -> None:
    bench.train(**NETWORK)
    model = bench.engine.read_state(bench.model_path)
    beginning = {"beginning": Beginning(model=model)}
    with pytest.raises(ModelFileError, match=r"gridsize = 1 is 2 in the model.*n_filters_scale = 2 is 1 in"):
        bench.train(hooks=beginning, **NETWORK | {"gridsize": 1, "n_filters_scale": 2})
    with pytest.raises(ModelFileError, match=r"architecture = 'cnn' is 'unrolled' in the model"):
        bench.train(hooks=beginning, gridsize=2, architecture="cnn")
    larger = make_scan(n=128).generate_grouped_data(128, 8, 4, gridsize=2, seed=0)
    with pytest.raises(ModelFileError, match="N = 128, and the model was trained for N = 64"):
        bench.train(hooks=beginning, data=larger, **NETWORK, N=128)
    damaged = dataclasses.replace(model, arrays={**model.arrays, "network.step": np.zeros(3, np.float32)})
    with pytest.raises(ModelFileError, match="weights do not fit"):
        bench.train(hooks={"beginning": Beginning(model=damaged)}, **NETWORK)


def test_a_probe_of_another_beam_is_a_warning(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.train(**NETWORK)
    model = bench.engine.read_state(bench.model_path)
    data, stop = bench.groups(2), {"should_stop": lambda: True}
    with caplog.at_level(logging.WARNING):
        bench.train(hooks={"beginning": Beginning(model=model), **stop}, **NETWORK)
        assert "differs much" not in caplog.text
        tiny = np.zeros_like(data.probe)
        tiny[:, 31:33, 31:33] = 1
        other = replace(data, probe=tiny)
        bench.train(data=other, hooks={"beginning": Beginning(model=model), **stop}, **NETWORK)
    assert "differs much from the scan's" in caplog.text


def test_a_state_is_where_a_run_looks_for_it(bench: Bench) -> None:
    assert state_path(bench.model_path) == bench.directory / CHECKPOINT_DIRECTORY / "training.state"
    assert Path(state_path(bench.model_path)).suffix not in (".npz", ".h5", bench.engine.model_suffix)
