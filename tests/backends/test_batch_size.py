"""How many groups at once, and what happens when they are too many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_support import QUICK, Bench, relative_error, without_graphs

from ptychopinn_ptychodus.backends.batch_size import forwards, groups_per_batch
from ptychopinn_ptychodus.data.raw import RawData


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_larger_patterns_and_groups_make_smaller_batches(
    make_scan: Callable[..., RawData], kind: str
) -> None:
    def groups(n: int, gridsize: int) -> int:
        data = make_scan(count=4, n=n).generate_grouped_data(n, 10, 2, gridsize=gridsize)
        return groups_per_batch(data, kind)

    alone = groups(64, 1)
    assert groups(128, 1) == alone // 2
    assert groups(64, 2) == alone // 4
    assert groups(128, 3) >= 1


def test_a_gpu_gets_more_at_once(make_scan: Callable[..., RawData]) -> None:
    data = make_scan().generate_grouped_data(64, 4, 2)
    assert groups_per_batch(data, "gpu") >= 8 * groups_per_batch(data, "cpu")


def test_progress_of_a_second_attempt_does_not_go_back() -> None:
    told: list[float] = []
    tell = forwards(told.append)
    for fraction in (0.25, 0.5, 0.125, 0.25, 0.75):
        tell(fraction)
    assert told == [0.25, 0.5, 0.5, 0.5, 0.75]
    forwards(None)(0.5)


class Memory:
    """Of a device that holds so many groups at once; by the engine's own error where there are more."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.batches: list[int] = []
        whole: Any
        full: Exception
        if bench.engine.name == "pytorch":
            import torch

            from ptychopinn_ptychodus.backends.lightning.module import PtychoPINN_Lightning

            whole, method, full = PtychoPINN_Lightning, "forward", torch.OutOfMemoryError("no memory")
        else:
            import tensorflow as tf

            from ptychopinn_ptychodus.backends.tensorflow.module import PtychoPINN_TensorFlow

            whole, method = PtychoPINN_TensorFlow, "patches"
            full = tf.errors.ResourceExhaustedError(None, None, "no memory")
        original = getattr(whole, method)

        def limited(model: Any, amplitude: Any, *others: Any) -> Any:
            self.batches.append(len(amplitude))
            if len(amplitude) > self.room:
                raise full
            return original(model, amplitude, *others)

        monkeypatch.setattr(whole, method, limited)


@pytest.fixture
def trained(bench: Bench) -> Bench:
    with without_graphs(bench.engine):
        bench.train(gridsize=2)
    return bench


def test_batches_that_do_not_fit_are_halved_and_the_log_says_so(
    trained: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = trained.groups(2, count=12)
    with without_graphs(trained.engine):
        expected = trained.patches(data)
        memory, fractions = Memory(trained, monkeypatch, room=3), list[float]()
        prediction = trained.engine.predict(trained.model_path, data, QUICK, on_progress=fractions.append)
    assert memory.batches == [8, 4, 2, 2, 2, 2, 2, 2]
    assert fractions == pytest.approx(np.arange(1, 7) / 6)
    assert relative_error(prediction.patches, expected) < 0.05  # regions depend on what shares a batch
    assert "starting again with 4" in caplog.text
    assert "inference_batch_size" in caplog.text


@pytest.mark.parametrize(
    ("asked", "room", "says"), [(6, 3, "lower inference_batch_size"), (None, 0, "close other programs")]
)
def test_batches_that_cannot_be_smaller_are_an_error_that_says_what_to_do(
    trained: Bench, monkeypatch: pytest.MonkeyPatch, asked: int | None, room: int, says: str
) -> None:
    Memory(trained, monkeypatch, room)
    execution = replace(QUICK, inference_batch_size=asked)
    with without_graphs(trained.engine), pytest.raises(RuntimeError, match=says):
        trained.patches(trained.groups(2, count=12), execution)
