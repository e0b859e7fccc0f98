"""How far a training is, as the worker sees it: by the batches after which an engine asks whether to stop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sized
from typing import Any

from ..backends.base import Apply, EpochReport, Preview
from .wire import Send

_STEP = 0.01
"""Of the whole, at least, between two messages."""


class Learning:
    """What a training is given to report to, and to be stopped by.

    Parameters
    ----------
    should_stop
        Whether the job has been asked to stop.
    send
        Sends the messages ``learning``, ``epoch`` and ``progress``.
    groups
        The groups of each set that an epoch goes over, to learn from them or to validate.
    batch_size
        Groups of a batch.
    begin
        Part of the job that is done before the training, 0 to 1.
    tell_batches
        Send the message ``batch`` after every batch.
    """

    def __init__(
        self,
        should_stop: Callable[[], bool],
        send: Send,
        groups: Iterable[Sized | None],
        batch_size: int,
        nepochs: int,
        begin: float = 0.0,
        tell_batches: bool = False,
    ) -> None:
        self._tell_batches = tell_batches
        self._should_stop = should_stop
        self._send = send
        self._batches = sum(math.ceil(len(part) / batch_size) for part in groups if part is not None)
        self._nepochs = nepochs
        self._begin = begin
        self._learnt = False
        self._previewing = False
        self._epoch, self._batch = 0, 0
        self._sent = begin

    def should_stop(self) -> bool:
        """What engines ask after every batch."""
        if not self._learnt:
            self._learnt = True
            self._send("learning")
        if self._previewing:  # what a network is applied to then is not learnt from
            return self._should_stop()
        # an engine need not ask as often in its last steps as was expected, nor as seldom
        self._batch = min(self._batch + 1, self._batches)
        if self._tell_batches:
            self._send("batch", epoch=self._epoch + 1, batch=self._batch, batches=self._batches)
        done = (self._epoch + self._batch / max(1, self._batches)) / self._nepochs
        fraction = self._begin + (1 - self._begin) * done
        if fraction - self._sent >= _STEP:
            self._sent = fraction
            self._send("progress", fraction=fraction)
        return self._should_stop()

    def report(self, report: EpochReport) -> None:
        """What engines tell after every epoch."""
        self._epoch, self._batch = report.epoch, 0
        fields: dict[str, Any] = dataclasses.asdict(report)
        self._send("epoch", **fields)

    def around(self, preview: Preview | None) -> Preview | None:
        """The preview, during which batches do not count."""
        if preview is None:
            return None

        def show(report: EpochReport, apply: Apply) -> None:
            self._previewing = True
            try:
                preview(report, apply)
            finally:
                self._previewing = False

        return show
