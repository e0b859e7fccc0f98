"""How far a training is, batch by batch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptychopinn_ptychodus.backends.base import EpochReport
from ptychopinn_ptychodus.backends.reporter import StopRequested, TrainingReporter
from ptychopinn_ptychodus.worker.training_messages import TrainingMessages


class Told:
    """What has been sent."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, **fields: Any) -> None:
        self.messages.append((kind, fields))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.messages]

    @property
    def fractions(self) -> list[float]:
        return [fields["fraction"] for kind, fields in self.messages if kind == "progress"]


def report(epoch: int, nepochs: int) -> EpochReport:
    return EpochReport(epoch, nepochs, 0.5, None, 1.0 * epoch, 10.0)


def test_progress_moves_within_the_first_epoch() -> None:
    told = Told()
    messages = TrainingMessages(told, [range(40), range(10)], batch_size=4, nepochs=2)
    messages.on_batch()
    assert told.messages == [("learning", {}), ("progress", {"fraction": pytest.approx(1 / 26)})]
    for _ in range(12):  # 10 to learn from, 3 to validate
        messages.on_batch()
    assert told.fractions[-1] == pytest.approx(0.5)
    messages.on_epoch(report(1, 2))
    messages.on_batch()
    assert told.fractions[-1] == pytest.approx(0.5 + 1 / 26)
    assert told.kinds.count("learning") == 1


def test_what_was_done_before_the_training_counts() -> None:
    told = Told()
    messages = TrainingMessages(told, [range(8), None], batch_size=4, nepochs=1, begin=0.2)
    messages.on_batch()
    messages.on_batch()
    assert told.fractions == pytest.approx([0.6, 1.0])


def test_what_a_preview_is_applied_to_is_not_learnt_from() -> None:
    told = Told()
    shown: list[Any] = []
    messages = TrainingMessages(told, [range(40)], batch_size=4, nepochs=2)

    def show(report: EpochReport, apply: object) -> None:
        before = list(told.fractions)
        assert reporter.should_stop is not None
        assert not any(reporter.should_stop() for _ in range(25))  # as often as it has batches
        assert told.fractions == before
        shown.append(report.epoch)

    reporter = TrainingReporter(
        on_batch=messages.on_batch, on_epoch=messages.on_epoch, should_stop=lambda: False, preview=show
    )
    reporter.start()
    for _ in range(10):
        reporter.batch(4)
    reporter.epoch({"train_loss": [0.5], "val_loss": []}, 2, lambda container: pytest.fail("not applied"))
    assert shown == [1]
    assert told.kinds.count("epoch") == 1
    assert told.fractions[-1] == pytest.approx(0.5)
    reporter.batch(4)
    assert told.fractions[-1] == pytest.approx(0.55)


def test_a_batch_is_told_before_the_training_is_stopped_after_it() -> None:
    told = Told()
    messages = TrainingMessages(told, [range(4)], batch_size=4, nepochs=1)
    reporter = TrainingReporter(on_batch=messages.on_batch, should_stop=lambda: True)
    with pytest.raises(StopRequested):
        reporter.batch(4)
    assert reporter.stopped
    assert told.kinds == ["learning", "progress"]


@given(
    groups=st.integers(1, 3000),
    batch_size=st.integers(1, 64),
    nepochs=st.integers(1, 5),
    more=st.integers(-3, 40),
)
def test_progress_only_grows_and_is_told_a_hundred_times_at_most(
    groups: int, batch_size: int, nepochs: int, more: int
) -> None:
    told = Told()
    messages = TrainingMessages(told, [range(groups)], batch_size, nepochs)
    for epoch in range(nepochs):
        for _ in range(max(1, -(-groups // batch_size) + more)):  # an engine that has other batches
            messages.on_batch()
        messages.on_epoch(report(epoch + 1, nepochs))
    assert told.fractions == sorted(told.fractions)
    assert len(told.fractions) <= 100
    assert all(0 < fraction <= 1 for fraction in told.fractions)
    assert told.kinds.count("epoch") == nepochs
