"""An interpreter that stays for a while after its job, with framework, model and compiled graph in place.

The next run begins in it at once, where a new one would import for seconds. It holds memory, and maybe a GPU,
for no longer than it was told to stay: it ends by itself, or with whoever has started it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from ..backends.registry import engine_for
from ..settings_table import SETTINGS
from .interpreter import Interpreter, child_environment
from .job import Job, PretrainJob, ReconstructJob, TrainJob

STAY_S = float(SETTINGS["Inference.KeepWarm"].default)
"""Seconds for which an interpreter waits for another job, by default."""


@dataclass(frozen=True)
class _Waiting:
    interpreter: Interpreter
    engine: str | None
    accelerator: str


@dataclass
class _Place:
    """Room for one interpreter that waits; apart from the worker, which it may outlive."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: _Waiting | None = None

    def exchange(self, other: _Waiting | None) -> _Waiting | None:
        with self.lock:
            waiting, self.waiting = self.waiting, other
        return waiting

    def clear(self) -> None:
        waiting = self.exchange(None)
        if waiting is not None:
            waiting.interpreter.end()


class WarmWorker:
    """At most one interpreter that waits between two runs; may be used from several threads.

    It serves runs of one engine on one kind of device, in the environment that it was started in. A run that
    needs another one, and every training, gets a new interpreter, and the one that waits ends: two would hold
    the memory of two. It stays after runs that have ended well, and not after others, whose state nobody
    knows.

    Parameters
    ----------
    stay_s
        Asked, when a run begins, for how many seconds its interpreter is to stay after it; 0: it ends.

    Attributes
    ----------
    on_change
        Called, in any thread, when an interpreter begins to wait, and when it waits no longer.
    """

    def __init__(self, stay_s: Callable[[], float]) -> None:
        self._stay_s = stay_s
        self._place = _Place()
        self._is_closed = False
        self.on_change: Callable[[], object] = lambda: None
        weakref.finalize(self, self._place.clear)  # at the end of this process, too

    @property
    def waits(self) -> bool:
        """Whether an interpreter waits."""
        return self._place.waiting is not None

    @property
    def engine(self) -> str | None:
        """Name of the engine whose framework the one that waits has loaded; None if it has loaded none."""
        waiting = self._place.waiting
        return None if waiting is None else waiting.engine

    @property
    def pid(self) -> int | None:
        """Process id of the one that waits."""
        waiting = self._place.waiting
        return None if waiting is None else waiting.interpreter.pid

    def stays_after(self, job: Job) -> float:
        """Seconds for which the interpreter of ``job`` is to stay after it."""
        execution = job.execution
        # several processes, or what changes a framework for good, are not for the next run
        several = execution.devices != 1 or execution.num_nodes != 1
        special = isinstance(job, TrainJob) and (several or execution.deterministic)
        if special or isinstance(job, PretrainJob):
            return 0.0
        return max(0.0, self._stay_s())

    def take(self, job: Job, directory: Path, stay_s: float) -> Interpreter | None:
        """The interpreter that waits, which has begun with ``job``; None if there is none for it.

        Parameters
        ----------
        directory
            The job's.
        stay_s
            Seconds to stay after it.
        """
        waiting = self._place.exchange(None)
        if waiting is None:
            return None
        self.on_change()
        if _serves(waiting, job) and waiting.interpreter.begin(directory, stay_s):
            return waiting.interpreter
        waiting.interpreter.end()
        return None

    def give(self, interpreter: Interpreter, job: Job) -> None:
        """Have the interpreter, which is done with ``job``, wait here; it has been told for how long."""
        interpreter.engine = _engine_of(job) or interpreter.engine
        waiting = _Waiting(interpreter, interpreter.engine, job.execution.accelerator)
        interpreter.on_end = lambda: self._forget(waiting)
        before = self._place.exchange(waiting)
        if self._is_closed:
            self._place.clear()
        if before is not None:  # of a run that went on at the same time
            before.interpreter.end()
        if interpreter.has_ended():
            self._forget(waiting)
        self.on_change()

    def release(self) -> None:
        """End the interpreter that waits, if there is one: its memory, and its device, are free again."""
        waiting = self._place.exchange(None)
        if waiting is not None:
            waiting.interpreter.end()
            self.on_change()

    def close(self) -> None:
        """As :meth:`release`, and nothing waits any more: runs that go on end with their process."""
        self._is_closed = True
        self.release()

    def _forget(self, waiting: _Waiting) -> None:
        """It has ended, by itself or by others."""
        with self._place.lock:
            if self._place.waiting is not waiting:
                return
            self._place.waiting = None
        # in another thread than the one that reads from it, and that this waits for
        threading.Thread(target=waiting.interpreter.end, daemon=True).start()
        self.on_change()


def _serves(waiting: _Waiting, job: Job) -> bool:
    """Whether ``job`` may run where the last one did."""
    if isinstance(job, TrainJob | PretrainJob) or waiting.accelerator != job.execution.accelerator:
        return False
    engine = _engine_of(job)
    if None not in (engine, waiting.engine) and engine != waiting.engine:
        return False
    return waiting.interpreter.environment == child_environment()


def _engine_of(job: Job) -> str | None:
    """Name of the engine that takes part in ``job``; None if none does, or there is none that could."""
    if isinstance(job, TrainJob | PretrainJob):
        return job.asked.backend
    if not isinstance(job, ReconstructJob):
        return None
    try:
        return engine_for(job.asked.model_path, job.asked.backend).name
    except Exception:  # the run itself will say what is wrong with its model
        return None


# ---- for the Python interface -----------------------------------------------------------------------------

_shared: ContextVar[WarmWorker | None] = ContextVar("_shared", default=None)


def shared_worker() -> WarmWorker | None:
    """That of the :func:`warm_worker` around the caller."""
    return _shared.get()


@contextmanager
def warm_worker(stay_s: float = STAY_S) -> Iterator[WarmWorker]:
    """Within the block, a run's process stays for a while, and the next run begins in it at once.

    Without it, each run has a process of its own, which imports a framework for seconds. It serves one engine
    on one device; every training has a new process, which stays after it. Runs with ``in_process`` take no
    part.

    Parameters
    ----------
    stay_s
        Seconds for which it waits for the next run, before it ends; its memory, and its device, are then free
        again. It ends with the block at the latest, or when :meth:`.WarmWorker.release` is called.

    Examples
    --------
    >>> with warm_worker():
    ...     first = reconstruct(scan, model)
    ...     second = reconstruct(scan, model)  # begins to compute at once
    """
    worker = WarmWorker(lambda: stay_s)
    token = _shared.set(worker)
    try:
        yield worker
    finally:
        _shared.reset(token)
        worker.close()
