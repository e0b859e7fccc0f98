"""Cases in processes of their own, which cost a fork and not the seconds that the imports take.

The process that runs the cases has imported what they need and has no threads. Each case is a fork of it, and
so is each worker that the case starts: a :class:`ForkingPopen` takes the place of ``subprocess.Popen``, and
forks where a fresh interpreter would run a module of this package. Memory and time are limited in either.
"""

from __future__ import annotations

import contextlib
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = "ptychopinn_ptychodus"
MORE_MEMORY = 3 * 2**30
"""Address space that a forked case may take beyond what it starts with, bytes."""

MEMORY = 20 * 2**30
"""Address space of a process that imports its frameworks itself: they reserve far more than they use."""

LARGEST_FILE = 2**30


class ForkingPopen(subprocess.Popen):  # type: ignore[type-arg]
    """``Popen`` that forks where it would start ``python -P -m`` and a module of this package."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        module = args[3] if isinstance(args, list) and args[1:3] == ["-P", "-m"] else ""
        if not module.startswith(f"{PACKAGE}."):
            super()._execute_child(args, *rest)  # type: ignore[misc]  # private, and not in the stubs
            return
        environment = rest[5]
        child_in, parent_in, parent_out, child_out, parent_err, child_err = rest[9:15]
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings(action="ignore"):  # that this process has threads, which the child lacks
            self.pid = os.fork()
        if self.pid == 0:
            for number, descriptor in enumerate((child_in, child_out, child_err)):
                if descriptor != -1:
                    os.dup2(descriptor, number)
            os.closerange(3, 256)
            os.environ.update(environment or {})
            run_and_exit(lambda: _run_module(module, args[4:]))
        self._child_created = True
        for mine, theirs in ((parent_in, child_in), (parent_out, child_out), (parent_err, child_err)):
            if theirs != -1 and theirs != mine:
                os.close(theirs)


def _run_module(module: str, arguments: list[str]) -> int:
    sys.argv = [module, *arguments]
    with warnings.catch_warnings(action="ignore"):  # that it has been imported before
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def run_and_exit(function: Callable[[], int]) -> None:
    """End this process, which was forked, as an interpreter would that runs ``function``."""
    code = 1
    try:
        code = function()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code & 0xFF)


def limit(memory: int) -> None:
    """Limit this process and those that it starts."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def taken() -> int:
    """Address space of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes
    ----------
    code
        Its exit code; negative: the signal that ended it.
    late
        It was ended because its time was over.
    seconds
        Wall-clock time that it took.
    """

    code: int
    late: bool
    seconds: float


class Running:
    """A forked process with a time limit; its output goes to files in ``directory``."""

    def __init__(self, directory: Path, function: Callable[[], int], seconds: float) -> None:
        self.seconds = seconds
        self._started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.chdir(directory)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run_and_exit(function)

    def ending(self) -> Ending | None:
        """How it ended; None while it runs."""
        waited = time.monotonic() - self._started
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = pid == 0 and waited > self.seconds
        if pid == 0 and not late:
            return None
        self._end_all()
        if late:
            _, status = os.waitpid(self.pid, 0)
        return Ending(os.waitstatus_to_exitcode(status), late, waited)

    def _end_all(self) -> None:
        """It, and what it has started and left: all are of its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def execute(arguments: list[str]) -> int:
    """Become ``python`` with these arguments."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *arguments])
