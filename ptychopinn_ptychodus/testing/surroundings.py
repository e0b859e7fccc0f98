"""What a run leaves where nobody asked for it: files, and processes that go on."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

GRACE_S = 5.0
"""For processes that have been told to end."""

_MARK = "PTYCHODUS_CONTRACT_RUN"

# Python's own helpers, which serve all runs and end with the interpreter.
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def contents(directory: Path) -> dict[str, str]:
    """Files of a directory by relative path, each with a digest of what it holds.

    What vanishes meanwhile, since a process that goes on removes it, is not listed.
    """
    found = {}
    for folder, _, names in os.walk(directory):  # which passes over folders that have gone; rglob() raises
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    name = str(path.relative_to(directory))
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    command: str
    environment: frozenset[bytes]


def _pids() -> set[int]:
    listed = {int(directory.name) for directory in Path("/proc").glob("[0-9]*")}
    return listed | {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def _others(known: Set[int]) -> Iterator[_Process]:
    """Processes that run and are not known, as far as this one may look at them."""
    for child in multiprocessing.active_children():
        if child.pid not in known:
            yield _Process(child.pid or 0, os.getpid(), child.name, frozenset())
    for directory in Path("/proc").glob("[0-9]*"):
        if int(directory.name) in known:
            continue
        try:
            # the name, in parentheses, may be any bytes: UTF-8 or not, with blanks and parentheses
            state, parent = (directory / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            command = (
                (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            )
            environment = frozenset((directory / "environ").read_bytes().split(b"\0"))
        except OSError:  # it has ended, or is somebody else's
            continue
        if state != b"Z" and not any(helper in command for helper in _HELPERS):
            yield _Process(int(directory.name), int(parent), command, environment)


class Surroundings:
    """An empty working directory and an empty temporary directory, and an eye on processes.

    Attributes
    ----------
    files
        What was left in either directory.
    processes
        What was started and still runs: children, and whatever has inherited a mark in the environment
        from them. It takes a ``/proc`` to see them; elsewhere only those of :mod:`multiprocessing` are.
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self.processes: list[str] = []
        self._token = uuid.uuid4().hex

    def __enter__(self) -> Self:
        self._root = Path(tempfile.mkdtemp(prefix="contract-"))
        self._before = (Path.cwd(), tempfile.tempdir, os.environ.get("TMPDIR"))
        working, temporary = (self._root / name for name in ("working directory", "temporary directory"))
        for directory in (working, temporary):
            directory.mkdir()
        self._known = _pids()
        os.chdir(working)
        tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
        os.environ[_MARK] = self._token
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            deadline = time.monotonic() + GRACE_S
            while (processes := self._running()) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.processes = processes
            self.files = sorted(contents(self._root))
        finally:
            self._restore()

    def _restore(self) -> None:
        working, tempfile.tempdir, variable = self._before
        os.environ.pop(_MARK, None)
        os.environ.pop("TMPDIR", None)
        if variable is not None:
            os.environ["TMPDIR"] = variable
        os.chdir(working)
        shutil.rmtree(self._root, ignore_errors=True)

    def _running(self) -> list[str]:
        wanted = f"{_MARK}={self._token}".encode()
        found = []
        for process in _others(self._known):
            if process.parent == os.getpid() or wanted in process.environment:
                found.append(f"{process.pid} {process.command}")
        return found
