"""A model applied on several devices of this machine: the patches of one; Stop; a device that fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_support import QUICK, Bench, without_graphs

from ptychopinn_ptychodus.backends.base import Engine
from ptychopinn_ptychodus.backends.devices import require_devices
from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.raw import RawData

THREE = replace(QUICK, devices=3, inference_batch_size=2)
"""Of seven batches, the last of which has one group."""


@pytest.fixture(scope="module")
def trained(
    engine: Engine, scan: RawData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bench, PtychoDataContainer]:
    bench = Bench(engine, scan, tmp_path_factory.mktemp("model"))
    with without_graphs(engine):
        bench.train(gridsize=2)
    return bench, bench.groups(2, count=13)


class Applied:
    """In which threads a network is applied to how many groups."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, failure: Exception | None) -> None:
        self.groups: dict[int, list[int]] = {}
        self.failure = failure
        whole: Any
        if engine.name == "pytorch":
            from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning

            whole, method = PtychoPINN_Lightning, "forward"
        else:
            from ptychopinn_ptychodus.backends.tensorflow.module import PtychoPINN_TensorFlow

            whole, method = PtychoPINN_TensorFlow, "patches"
        original = getattr(whole, method)

        def seen(model: Any, amplitude: Any, *others: Any) -> Any:
            groups = self.groups.setdefault(threading.get_ident(), [])
            groups.append(len(amplitude))
            if self.failure is not None and len(groups) == 2:
                raise self.failure
            return original(model, amplitude, *others)

        monkeypatch.setattr(whole, method, seen)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not [each for each in set(threading.enumerate()) - before if "work" in each.name]


def test_several_devices_give_the_patches_of_one(
    trained: tuple[Bench, PtychoDataContainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, data = trained
    fractions: list[float] = []
    with without_graphs(bench.engine):
        expected = bench.engine.predict(bench.model_path, data, replace(THREE, devices=1))
        applied = Applied(bench.engine, monkeypatch, None)
        found = bench.engine.predict(bench.model_path, data, THREE, on_progress=fractions.append)
    assert sorted(map(tuple, applied.groups.values())) == [(2, 2), (2, 2), (2, 2, 1)]
    assert threading.get_ident() not in applied.groups
    scale = np.abs(expected.patches).max()
    np.testing.assert_allclose(found.patches, expected.patches, atol=1e-6 * scale)
    one, several = (each.stitch(data).object for each in (expected, found))
    np.testing.assert_allclose(several, one, atol=1e-5 * np.abs(one).max())
    assert fractions == sorted(fractions)
    assert (len(fractions), fractions[-1]) == (7, 1.0)


def test_more_devices_than_batches_are_no_harm(trained: tuple[Bench, PtychoDataContainer]) -> None:
    bench, data = trained
    few = data.subset([0, 1])
    with without_graphs(bench.engine):
        assert np.isfinite(bench.patches(few, THREE)).all()


def test_stop_ends_all_devices(trained: tuple[Bench, PtychoDataContainer]) -> None:
    bench, data = trained
    done: list[float] = []
    with without_graphs(bench.engine), pytest.raises(InterruptedError):
        bench.engine.predict(
            bench.model_path, data, THREE, on_progress=done.append, should_stop=lambda: bool(done)
        )
    assert len(done) < 7


def test_device_that_fails_is_named(
    trained: tuple[Bench, PtychoDataContainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, data = trained
    Applied(bench.engine, monkeypatch, RuntimeError("an illegal memory access"))
    with without_graphs(bench.engine), pytest.raises(RuntimeError, match=r"(?i)device .?cpu.*illegal memory"):
        bench.engine.predict(bench.model_path, data, THREE)


def test_more_devices_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ExecutionConfig\.devices = 3, but this machine has 2 GPUs"):
        require_devices(3, 2, "GPUs")
