"""What takes long to make, made once and not by every process that tests run in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The directory ``name``, which ``make`` has filled: in this process, or in another one of this test run.

    All that ``make`` leaves has to be in files of that directory, and no test may change them. Whoever comes
    meanwhile waits. If ``make`` fails, the error is the caller's, and the next one tries anew.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each process has its own directory in that of the test run
    directory, done = base / f"once-{name}", base / f"once-{name}.done"
    with (base / f"once-{name}.lock").open("w") as lock:
        _wait_for(lock.fileno())
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            make(directory)
            done.touch()
    return directory


def _wait_for(lock: int) -> None:
    """Hold the lock on an open file until that is closed; without POSIX, tests have to run one at a time."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
