"""The interpreter that a worker runs in, as the parent sees it: started, told, listened to, and ended.

It is a fresh one, and not a ``multiprocessing`` spawn, which would run the main script of a user's session
again. It is handed one job after another, each of which is a :class:`.ChildProcess`; most have only one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ..importing import import_path
from .wire import ChildDiedError, Message, order_of_job

WAIT_POLICY = "OMP_WAIT_POLICY"
WAITING = {WAIT_POLICY: "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Environment variables that say how a child's threads wait: they spin a thousand times, then they sleep."""
ONE_AT_A_TIME = {"OPENBLAS_NUM_THREADS": "1"}
"""... and numpy's library for matrices, whose threads spin for milliseconds, that it is to have none: the
engines have their own, and a refinement has the cores busy by itself."""

BEGIN_S = 2.0
"""Seconds in which an interpreter that waits begins with a job, or it is taken for one that never will."""
LAST_WORDS_S = 0.5
"""How long to look for messages of a child that is gone."""
_KILL_GRACE_S = 2.0
_KEPT_LINES = 40


class Interpreter:
    """A process that runs the module ``worker`` on the job in ``directory``.

    Parameters
    ----------
    stay_s
        Seconds for which it waits for another job after one that has ended well; 0: it ends.
    log
        Where records about it go.

    Attributes
    ----------
    received
        Its messages, in their order, and None once it has closed its standard output.
    engine
        Name of the engine whose framework it has loaded, as far as its jobs tell.
    on_end
        Called once it has closed its standard output, in a thread of its own.
    """

    def __init__(self, worker: str, directory: Path, stay_s: float, log: logging.Logger) -> None:
        if not sys.executable:
            raise RuntimeError(
                "This Python does not know its own executable (sys.executable is empty), so no worker "
                "process can be started. Run Ptychodus with a regular Python."
            )
        self._log = log
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self.received: queue.Queue[Message | None] = queue.Queue()
        self.engine: str | None = None
        self.on_end: Callable[[], object] = lambda: None
        self.environment = child_environment()
        self._process = subprocess.Popen(
            # -P: -m would put the current directory before all others, see child_environment
            [sys.executable, "-P", "-m", worker, str(directory), str(stay_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._threads = [
            threading.Thread(target=target, args=(stream,), daemon=True)
            for target, stream in (
                (self._read_messages, self._process.stdout),
                (self._read_errors, self._process.stderr),
            )
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def has_been_read(self) -> bool:
        """Whether everything that it has said has arrived."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the process to end; True if it has."""
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tell(self, line: str) -> None:
        """Write a line to its standard input; that it has ended is no error."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def begin(self, directory: Path, stay_s: float) -> bool:
        """Hand over the next job to one that waits; False if it is gone, or does not begin.

        What it has said since the last job is nobody's any more.
        """
        self._errors.clear()
        self.tell(order_of_job(directory, stay_s))
        deadline = time.monotonic() + BEGIN_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                message = self.received.get(timeout=left_s)
            except queue.Empty:
                return False
            if message is None:
                return False
            if message.get("kind") == "begun":
                return True
        return False

    def end(self, grace_s: float = 0.0) -> None:
        """End the process, after ``grace_s`` in which it may end by itself."""
        process = self._process
        if not self.wait(grace_s):
            process.terminate()
            if not self.wait(_KILL_GRACE_S):
                process.kill()
                process.wait()
        deadline = time.monotonic() + LAST_WORDS_S
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=max(0.0, deadline - time.monotonic()))
        for stream in (process.stdin, process.stdout, process.stderr):
            # a reader that still waits for a surviving grandchild owns its stream
            if stream is not None and self.has_been_read():
                with contextlib.suppress(OSError):  # an unsent "stop"
                    stream.close()

    def death(self) -> ChildDiedError:
        """How the process has ended, with the last lines that it has written."""
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
        said = "\n".join(line for line in self._errors if line)
        return ChildDiedError(f"The worker process {reason}." + (f" It last said:\n{said}" if said else ""))

    def _read_messages(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("not an object")
            except ValueError:
                self._log.debug("Not a message of the worker: %r", line[:200])
            else:
                self.received.put(message)
        self.received.put(None)  # so that nobody need wait for a child that has ended
        self.on_end()

    def _read_errors(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            self._errors.append(text)
            self._log.debug("%s", text)


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
