"""Messages that say how far a training is, made from the batches and epochs that an engine reports."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from ..backends.base import EpochReport
from .wire import Send

_STEP = 0.01
"""Least part of the whole work between two ``progress`` messages."""


def telling_progress(send: Send, begin: float, end: float) -> Callable[[float], None]:
    """A function that takes how far a part of a job is, 0 to 1, and now and then sends how far the job is.

    Parameters
    ----------
    send
        Sends the message ``progress``.
    begin, end
        How far the job is before the part, and after it, 0 to 1.
    """
    sent = begin

    def tell(part: float) -> None:
        nonlocal sent
        fraction = begin + (end - begin) * float(part)
        if fraction - sent >= _STEP:
            sent = fraction
            send("progress", fraction=fraction)

    return tell


class TrainingMessages:
    """Sends the parent messages of a training; its methods are the callbacks of :meth:`.Engine.train`.

    Parameters
    ----------
    send
        Sends the messages ``resumed``, ``learning``, ``epoch`` and ``progress``.
    containers
        The sets of groups that an epoch goes over, to learn from or to validate with.
    batch_size
        Number of groups in a batch.
    begin
        Part of the job that is done before the training, 0 to 1.
    tell_batches
        Whether the message ``batch`` is sent after every batch.
    history
        Losses by name of the epochs that were learnt before the training was interrupted: they are sent at
        once, as the message ``resumed``. Empty if it begins here.
    """

    def __init__(
        self,
        send: Send,
        containers: Iterable[Sized | None],
        batch_size: int,
        nepochs: int,
        begin: float = 0.0,
        tell_batches: bool = False,
        history: Mapping[str, list[float]] | None = None,
    ) -> None:
        self._tell_batches = tell_batches
        self._send = send
        self._batches = sum(math.ceil(len(part) / batch_size) for part in containers if part is not None)
        self._nepochs = nepochs
        self._tell = telling_progress(send, begin, 1.0)
        self._learnt = False
        self._epoch, self._batch = 0, 0
        if history:
            self._epoch = len(history["train_loss"])
            send("resumed", history={name: list(losses) for name, losses in history.items()})

    def on_batch(self) -> None:
        """Count a batch, and send what there is to say about it."""
        if not self._learnt:
            self._learnt = True
            self._send("learning")
        # an engine need not have as many batches as were expected, nor as few
        self._batch = min(self._batch + 1, self._batches)
        if self._tell_batches:
            self._send("batch", epoch=self._epoch + 1, batch=self._batch, batches=self._batches)
        self._tell((self._epoch + self._batch / max(1, self._batches)) / self._nepochs)

    def on_epoch(self, report: EpochReport) -> None:
        """Send the report of an epoch."""
        self._epoch, self._batch = report.epoch, 0
        fields: dict[str, Any] = dataclasses.asdict(report)
        self._send("epoch", **fields)
