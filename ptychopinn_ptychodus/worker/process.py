"""The child process for one job, as the parent sees it: how it is started, read from, stopped and ended.

Only the child imports a framework, so that the application never holds a GPU. The child is a fresh
interpreter and not a ``multiprocessing`` spawn, which would run the main script of a user's session again.
The messages that it sends are described in :mod:`.wire`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from ..importing import import_path
from .job import Job, PretrainJob, TrainJob, write_job
from .wire import ChildDiedError, Message, rebuild_error

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
_LAST_WORDS_S = 0.5  # how long to look for messages of a child that is gone
_KILL_GRACE_S = 2.0
_EXIT_GRACE_S = 10.0
_KEPT_LINES = 40

WAIT_POLICY = "OMP_WAIT_POLICY"
WAITING = {WAIT_POLICY: "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Environment variables that say how a child's threads wait: they spin a thousand times, then they sleep."""
ONE_AT_A_TIME = {"OPENBLAS_NUM_THREADS": "1"}
"""... and numpy's library for matrices, whose threads spin for milliseconds, that it is to have none: the
engines have their own, and a refinement has the cores busy by itself."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, of a used-up quota, and of a file that is larger than a limit allows."""


class ChildProcess:
    """One job in a process of its own; a context manager that leaves neither process nor files behind.

    Parameters
    ----------
    log
        Where the child's log records go.

    Examples
    --------
    >>> with ChildProcess(log) as child:
    ...     raw.to_directory(child.directory / "data")
    ...     child.start(job)
    ...     for message in child.messages():  # None at least twice a second
    ...         ...
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._queue: queue.Queue[Message | None] = queue.Queue()
        self._stderr: deque[str] = deque(maxlen=_KEPT_LINES)
        self._threads: list[threading.Thread] = []
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
        return None if self._process is None else self._process.pid

    def start(self, job: Job) -> None:
        """Write the job and start a worker on it."""
        write_job(job, self.directory)
        if isinstance(job, TrainJob | PretrainJob):
            self._writes_to = job.model_path.parent
        if not sys.executable:
            raise RuntimeError(
                "This Python does not know its own executable (sys.executable is empty), so no worker "
                "process can be started. Run Ptychodus with a regular Python."
            )
        self._process = subprocess.Popen(
            # -P: -m would put the current directory before all others, see child_environment
            [sys.executable, "-P", "-m", WORKER, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for target, stream in (
            (self._read_messages, self._process.stdout),
            (self._read_errors, self._process.stderr),
        ):
            thread = threading.Thread(target=target, args=(stream,), daemon=True)
            thread.start()
            self._threads.append(thread)

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
        assert self._process is not None
        gone_since: float | None = None
        silent_since = time.monotonic()
        while self.result is None:
            try:
                message = self._queue.get(timeout=_LISTEN_S)
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
            if self._process.poll() is not None:
                # Nobody waits for the end of the pipe: its data loaders may outlive it and hold that open.
                gone_since = gone_since or time.monotonic()
                readers_done = not any(thread.is_alive() for thread in self._threads)
                if self._queue.empty() and (readers_done or time.monotonic() - gone_since > _LAST_WORDS_S):
                    raise self._death()
            yield None
            silent_since = time.monotonic()
        # frameworks may take seconds to end, in which there are still messages to yield
        deadline = time.monotonic() + _EXIT_GRACE_S
        while time.monotonic() < deadline:
            try:
                self._process.wait(timeout=HEARTBEAT_S)
            except subprocess.TimeoutExpired:
                yield None
            else:
                break

    def stop(self, grace_s: float = STOP_GRACE_S) -> list[Message]:
        """Ask the child to keep its best state and end, wait for that, and end it if it does not.

        It gets less time than ``grace_s`` if there is nothing to keep, or if a checkpoint is kept anyway.
        :attr:`result` is set if the child answered. Messages that arrived in the meantime are returned.
        """
        arrived: list[Message] = []
        if self._process is None or self.result is not None:
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
        if self._process is None or self._process.stdin is None or self._stop_requested:
            return
        self._stop_requested = True
        with contextlib.suppress(OSError):  # it has ended
            self._process.stdin.write(b"stop\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End the child and remove the scratch directory."""
        try:
            self._end()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            process.wait(timeout=HEARTBEAT_S if self.result is not None else 0)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(timeout=_KILL_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        deadline = time.monotonic() + _LAST_WORDS_S
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        for stream in (process.stdin, process.stdout, process.stderr):
            # a reader that still waits for a surviving grandchild owns its stream
            if stream is not None and not any(thread.is_alive() for thread in self._threads):
                with contextlib.suppress(OSError):  # an unsent "stop"
                    stream.close()

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

    def _read_messages(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("not an object")
            except ValueError:
                self._log.debug("Not a message of the worker: %r", line[:200])
            else:
                self._queue.put(message)
        self._queue.put(None)  # so that messages() need not wait for a child that has ended

    def _read_errors(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            self._stderr.append(text)
            self._log.debug("%s", text)

    def _death(self) -> ChildDiedError:
        assert self._process is not None
        code = self._process.returncode
        if code is not None and code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            reason = f"was ended by {name}"
            if name == "SIGKILL":
                reason += (
                    ". The machine probably ran out of memory: close other programs, or reduce BatchSize, "
                    "NumFiltersScale or NumSubsample"
                )
        else:
            reason = f"ended without an answer (exit code {code})"
        said = "\n".join(line for line in self._stderr if line)
        return ChildDiedError(f"The worker process {reason}." + (f" It last said:\n{said}" if said else ""))


def child_environment() -> dict[str, str]:
    """Environment variables of a child: where it imports from, and how its threads wait for each other.

    It imports from the same places as the parent, in the same order, but not from the current directory,
    which an interactive Python has as "".

    A thread of an OpenMP loop that waits for the others spins for a fraction of a millisecond, and then gives
    its core away. Longer spinning would take time from the threads that are waited for, if the machine has
    other work to do; without any, a thread would have to be woken for each of many short loops. Both of
    PyTorch's OpenMP libraries obey ``OMP_WAIT_POLICY``; GNU's, which most builds have, obeys its own count
    first. numpy's matrices have one thread. A variable that the user has set is left as it is.
    """
    return {
        **({} if WAIT_POLICY in os.environ else WAITING),
        **ONE_AT_A_TIME,
        **os.environ,
        "PYTHONPATH": import_path(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
