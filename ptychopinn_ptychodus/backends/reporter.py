"""How an engine reports its training and hears that it is to stop, for the callbacks of every engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from .base import Apply, EpochReport, OnBatch, OnEpoch, PreviewCallback, ShouldStop


class StopRequested(Exception):
    """Leaves a training loop at once, without the validation that would end it: a user waits for that."""


@contextmanager
def stopping_together(any_stops: Callable[[bool], bool]) -> Iterator[None]:
    """If one of several processes leaves this block because it is to stop, all of them do.

    ``any_stops`` is told whether this one does, and says whether any does, once all have been asked.
    """
    stops = False
    try:
        yield
    except StopRequested:
        stops = True
    if any_stops(stops):
        raise StopRequested


class TrainingReporter:
    """Calls what :meth:`.Engine.train` was given, in the order that is specified there.

    It measures the time, makes an :class:`.EpochReport` of each epoch's losses, and turns the answer of
    ``should_stop`` into an exception that ends the engine's loop.

    Parameters
    ----------
    on_batch, on_epoch, should_stop, preview
        As :meth:`.Engine.train` takes them.

    Attributes
    ----------
    stopped
        Whether the run was asked to stop.
    """

    def __init__(
        self,
        *,
        on_batch: OnBatch | None = None,
        on_epoch: OnEpoch | None = None,
        should_stop: ShouldStop | None = None,
        preview: PreviewCallback | None = None,
    ) -> None:
        self._on_batch = on_batch
        self._on_epoch = on_epoch
        self.should_stop = should_stop
        self._preview = preview
        self._start = 0.0
        self._patterns = 0
        self.stopped = False

    def mute(self) -> None:
        """From now on, tell nobody: of several processes that train together, the first one reports."""
        self._on_batch = self._on_epoch = self._preview = None

    def start(self, seconds: float = 0.0, patterns: int = 0) -> None:
        """The training begins: its time is measured from now on.

        ``seconds`` and ``patterns`` are those that it has taken already, if it goes on with an earlier one.
        """
        self._start, self._patterns = time.monotonic() - seconds, patterns

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    @property
    def patterns(self) -> int:
        """Patterns that were learnt from since the start."""
        return self._patterns

    def batch(self, patterns: int = 0) -> None:
        """A batch is done, ``patterns`` of it learnt from; raises :class:`StopRequested` if asked to stop."""
        self._patterns += patterns
        if self._on_batch is not None:
            self._on_batch()
        self.ask()

    def ask(self) -> None:
        """Raise :class:`StopRequested` if the training is to stop."""
        if self.should_stop is not None and self.should_stop():
            self.stopped = True
            raise StopRequested

    def epoch(self, history: Mapping[str, list[float]], nepochs: int, apply: Apply | None) -> None:
        """An epoch is done; its losses are the last of ``history``.

        ``apply`` must not change the training, and must raise ``InterruptedError`` when asked to stop. It is
        None if the network is in another process: then there is no preview.
        """
        seconds = self.seconds
        train, validation = history["train_loss"], history["val_loss"]
        report = EpochReport(
            epoch=len(train),
            nepochs=nepochs,
            train_loss=train[-1],
            val_loss=validation[-1] if validation else None,
            seconds=seconds,
            patterns_per_second=self._patterns / max(seconds, 1e-9),
        )
        if self._on_epoch is not None:
            self._on_epoch(report)
        if self._preview is not None and apply is not None:
            try:
                self._preview(report, apply)
            except InterruptedError as exc:
                self.stopped = True
                raise StopRequested from exc
