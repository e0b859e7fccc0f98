"""The child process for one job, as the parent sees it: given the job, read from, stopped and ended.

Only the child imports a framework, so that the application never holds a GPU. The messages that it sends are
described in :mod:`.wire`. The interpreter that it runs in (:mod:`.interpreter`) is a new one, or one that has
waited since its last job (:mod:`.warm`).
"""

from __future__ import annotations

import errno
import logging
import queue
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from .interpreter import LAST_WORDS_S, Interpreter
from .job import Job, PretrainJob, TrainJob, write_job
from .warm import WarmWorker
from .wire import STOP, Message, rebuild_error

WORKER = "ptychopinn_ptychodus.worker.main"
HEARTBEAT_S = 0.5
"""Seconds after which :meth:`ChildProcess.messages` yields None if the child has said nothing."""
_LISTEN_S = HEARTBEAT_S / 2  # the longest wait for one message, and so the delay of a Stop
STOP_GRACE_S = 20.0
"""Seconds that a child is given to stop if it has learnt something, and none of it is on disk yet."""
CHECKPOINT_GRACE_S = 1.5
"""Seconds if the child has left its best state as a checkpoint, as engines do after each epoch."""
NOTHING_GRACE_S = 0.25
"""Seconds if the child has nothing to keep: it imports its framework, or reconstructs."""
_EXIT_GRACE_S = 10.0

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, of a used-up quota, and of a file that is larger than a limit allows."""


class ChildProcess:
    """One job in a process of its own; a context manager that leaves neither process nor files behind.

    Parameters
    ----------
    log
        Where the child's log records go.
    warm
        Where the interpreter comes from, and goes to, if it is to serve several jobs; None: it ends with this
        one.

    Examples
    --------
    >>> with ChildProcess(log) as child:
    ...     raw.to_directory(child.directory / "data")
    ...     child.start(job)
    ...     for message in child.messages():  # None at least twice a second
    ...         ...
    """

    def __init__(self, log: logging.Logger, warm: WarmWorker | None = None) -> None:
        self._log = log
        self._warm = warm
        self._job: Job
        self._interpreter: Interpreter | None = None
        self._stay_s = 0.0
        self._stop_requested = False
        self._worth_s = NOTHING_GRACE_S
        self.directory = Path(tempfile.mkdtemp(prefix="ptychopinn-"))
        self._writes_to = self.directory
        self.result: Message | None = None

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id, once started."""
        return None if self._interpreter is None else self._interpreter.pid

    def start(self, job: Job) -> None:
        """Write the job and have a worker begin with it."""
        write_job(job, self.directory)
        if isinstance(job, TrainJob | PretrainJob):
            self._writes_to = job.model_path.parent
        self._job = job
        if self._warm is not None:
            self._stay_s = self._warm.stays_after(job)
            self._interpreter = self._warm.take(job, self.directory, self._stay_s)
        if self._interpreter is None:
            self._interpreter = Interpreter(WORKER, self.directory, self._stay_s, self._log)

    def messages(self) -> Iterator[Message | None]:
        """Yield what the child reports, and None whenever nothing was yielded for :data:`HEARTBEAT_S`.

        Log records are passed on to the logger and not yielded, however many there are. Ends with the
        child's result in :attr:`result`.

        Raises
        ------
        ChildDiedError
            If the child ended without an answer.
        Exception
            The one that the child reported, as far as it can be rebuilt here.
        """
        interpreter = self._interpreter
        assert interpreter is not None
        gone_since: float | None = None
        silent_since = time.monotonic()
        while self.result is None:
            try:
                message = interpreter.received.get(timeout=_LISTEN_S)
            except queue.Empty:
                message = None
            if message is not None:
                if self._consume(message):
                    yield message
                elif time.monotonic() - silent_since >= _LISTEN_S:
                    yield None  # so that a caller can stop the child between log records
                else:
                    continue
                silent_since = time.monotonic()
                continue
            if interpreter.has_ended():
                # Nobody waits for the end of the pipe: its data loaders may outlive it and hold that open.
                gone_since = gone_since or time.monotonic()
                is_read = interpreter.has_been_read() or time.monotonic() - gone_since > LAST_WORDS_S
                if is_read and interpreter.received.empty():
                    raise interpreter.death()
            yield None
            silent_since = time.monotonic()
        if self._stay_s:
            return  # it waits for another job
        # frameworks may take seconds to end, in which there are still messages to yield
        deadline = time.monotonic() + _EXIT_GRACE_S
        while time.monotonic() < deadline and not interpreter.wait(HEARTBEAT_S):
            yield None

    def stop(self, grace_s: float = STOP_GRACE_S) -> list[Message]:
        """Ask the child to keep its best state and end, wait for that, and end it if it does not.

        It gets less time than ``grace_s`` if there is nothing to keep, or if a checkpoint is kept anyway.
        :attr:`result` is set if the child answered. Messages that arrived in the meantime are returned.
        """
        arrived: list[Message] = []
        if self._interpreter is None or self.result is not None:
            return arrived
        self.request_stop()
        started = time.monotonic()
        try:
            for message in self.messages():
                if message is not None:
                    arrived.append(message)
                if self.result is not None:
                    break  # the result is written, and a user waits: close() ends the process
                waited_s = time.monotonic() - started
                if waited_s > min(grace_s, self._worth_s):
                    level = logging.DEBUG if self._worth_s == NOTHING_GRACE_S else logging.WARNING
                    self._log.log(level, "The worker did not end within %.1f s and is ended now.", waited_s)
                    break
        except Exception as exc:  # how a child that was stopped has ended is of no use to the caller
            self._log.warning("While stopping: %s", exc)
        return arrived

    def request_stop(self) -> None:
        """Ask the child to keep its best state and end; returns at once."""
        if self._interpreter is None or self._stop_requested:
            return
        self._stop_requested = True
        self._interpreter.tell(STOP)

    def close(self) -> None:
        """End the child, unless it stays for another job, and remove the scratch directory."""
        interpreter = self._interpreter
        try:
            if interpreter is None:
                return
            # nobody knows what state others are in: asked to stop, failed, or left before they were done
            if self._stay_s and self.result is not None and not self._stop_requested:
                assert self._warm is not None
                self._warm.give(interpreter, self._job)
            else:
                interpreter.end(HEARTBEAT_S if self.result is not None and not self._stay_s else 0)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _consume(self, message: Message) -> bool:
        """Deal with a message that is not for the caller; True if it is for the caller."""
        kind = message.get("kind")
        if kind == "log":
            self._relay(message)
            return False
        if kind == "error":
            self._log.debug("Traceback in the worker:\n%s", message["traceback"])
            raise self.with_remedy(rebuild_error(message))
        if kind in ("learning", "network", "refinement"):
            self._worth_s = STOP_GRACE_S  # what is learnt, or refined, until then is handed over
        if kind == "epoch":
            self._worth_s = CHECKPOINT_GRACE_S
        if kind == "result":
            self.result = message
        return True

    def with_remedy(self, exc: Exception) -> Exception:
        """The same error; if a disk is full, with the directory and what to do in its message."""
        if not (isinstance(exc, OSError) and exc.errno in NO_ROOM):
            return exc
        other = "set TMPDIR to" if self._writes_to == self.directory else "choose"
        # frameworks name a file of their own, which may not exist any more
        text = f'{exc.strerror} in "{self._writes_to}": make room there, or {other} another directory'
        return type(exc)(exc.errno, text)

    def _relay(self, message: Message) -> None:
        name, level, text = message["name"], message["level"], message["text"]
        if not (name == self._log.name or name.startswith("ptychopinn_ptychodus")):
            # records of frameworks below this level are of no use to a user
            text = f"{name}: {text}"
            level = level if level >= logging.WARNING else logging.DEBUG
        self._log.log(level, "%s", text)
