"""A training or a reconstruction, run as the application runs it, and what was seen of it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ptychodus.api.reconstruct import Reconstructor

from .surroundings import Surroundings


@dataclass
class RecordedRun:
    """What a run did."""

    outputs: list[Any] = field(default_factory=list)
    goals: list[Any] = field(default_factory=list)
    """``get_progress_goal()`` before the run and at every output, as the application asks for it."""
    error: BaseException | None = None
    ended: bool = False
    """False if it took longer than it was given."""
    silences_s: list[float] = field(default_factory=list)
    """Times between outputs, the start and the end included."""
    closing_s: float = 0.0
    """How long it took to end once it was stopped."""
    processes: list[str] = field(default_factory=list)
    """What it started and left running."""
    strays: list[str] = field(default_factory=list)
    """Files that it left where nobody asked for any."""
    log: list[logging.LogRecord] = field(default_factory=list)
    """What was said on the library's logger."""

    @property
    def problem(self) -> str | None:
        """Why the run was none, or None."""
        if not self.ended:
            return "it did not end in time"
        return None if self.error is None else f"{type(self.error).__name__}: {self.error}"

    @property
    def failure(self) -> str | None:
        """The same, where a run without any output is none either."""
        return self.problem or (None if self.outputs else "it yielded nothing")

    def ended_within(self, limit_s: float) -> bool:
        """Whether it ended soon enough once it was stopped."""
        return self.ended and self.closing_s <= limit_s


def record(
    generate: Callable[[], Iterator[Any]],
    reconstructor: Reconstructor,
    logger: logging.Logger,
    *,
    limit_s: float,
    stop_after: int | None = None,
) -> RecordedRun:
    """Run what ``generate`` returns to its end, in a thread of its own as Ptychodus does.

    Parameters
    ----------
    generate
        Calls ``train`` or ``reconstruct``.
    reconstructor
        Whose progress goal is asked for.
    logger
        The library's.
    limit_s
        A run that has not ended by then is given up.
    stop_after
        Close the generator after so many outputs, which is what Stop does.
    """
    run = RecordedRun()
    thread = threading.Thread(target=_drive, args=(run, generate, reconstructor, stop_after), daemon=True)
    with Surroundings() as surroundings, _listening(logger, run.log):
        thread.start()
        thread.join(limit_s)
        run.ended = not thread.is_alive()
    run.processes, run.strays = surroundings.processes, surroundings.files
    return run


def _drive(
    run: RecordedRun,
    generate: Callable[[], Iterator[Any]],
    reconstructor: Reconstructor,
    stop_after: int | None,
) -> None:
    last = time.monotonic()

    def note_silence() -> None:
        nonlocal last
        now = time.monotonic()
        run.silences_s.append(now - last)
        last = now

    try:
        run.goals.append(reconstructor.get_progress_goal())
        generator = iter(generate())
        for output in generator:
            note_silence()
            run.outputs.append(output)
            run.goals.append(reconstructor.get_progress_goal())
            if stop_after is not None and len(run.outputs) >= stop_after:
                closing = time.monotonic()
                close = getattr(generator, "close", None)  # an iterator of another kind is just let go
                if close is not None:
                    close()
                del generator, close
                run.closing_s = time.monotonic() - closing
                break
        note_silence()
    except BaseException as exc:  # SystemExit in this thread would go unseen
        run.error = exc


@contextlib.contextmanager
def _listening(logger: logging.Logger, records: list[logging.LogRecord]) -> Iterator[None]:
    """What Ptychodus does for the log beside its progress bar: a handler on the library's logger."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    listener = Listener()
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
