"""The further processes of a training on several devices of this machine: started, watched, ended.

The process that was asked to train is the first of them, with rank 0: it alone reports and writes. The others
get the grouped data and the configuration as files, never as pickles, and end when it does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...config import DataConfig, ExecutionConfig, TrainingConfig, from_dict, to_dict
from ...data import large_arrays
from ...data.container import PtychoDataContainer
from ...importing import import_path
from ..physics import InitialPhysics
from ..reporter import TrainingReporter
from .group import Member

READY = b"ready\n"
"""What a process says once only the others are missing."""

LOST = 3
"""Exit code of a process to which another one was lost."""

_MODULE = "ptychopinn_ptychodus.backends.lightning.rank"
_ASK_S = 0.2
_DEATH_S = 2.0  # how long a death takes to be seen after the connection has broken
_START_S = 5.0  # ... or after it has said so
_END_S = 1.0  # how long one takes to end that has finished
_LINES = 3


class RankError(RuntimeError):
    """A process of several that train together has ended; the message names it."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What a further process is given."""

    train: PtychoDataContainer
    validation: PtychoDataContainer | None
    config: TrainingConfig
    execution: ExecutionConfig
    physics: InitialPhysics
    size: int
    port: int

    def save(self, directory: Path) -> None:
        """Leave it in a directory."""
        plain: dict[str, Any] = {"size": self.size, "port": self.port, "log_scale": self.physics.log_scale}
        for name, each in (("config", self.config), ("execution", self.execution)):
            plain[name] = to_dict(each)
        plain["statistics"] = to_dict(self.physics.data)
        for name, container in (("train", self.train), ("validation", self.validation)):
            if container is not None:
                plain[name] = _save(container, directory / name)
        np.save(directory / "probe_planes.npy", self.physics.probe_planes)
        np.save(directory / "good_pixels.npy", self.physics.good_pixels)
        (directory / "task.json").write_text(json.dumps(plain), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Task:
        """Inverse of :meth:`save`; the arrays stay on disk, so that all processes have them but once."""
        plain = json.loads((directory / "task.json").read_text(encoding="utf-8"))
        config = from_dict(TrainingConfig, plain["config"])
        physics = InitialPhysics(
            from_dict(DataConfig, plain["statistics"]),
            np.load(directory / "probe_planes.npy", allow_pickle=False),
            float(plain["log_scale"]),
            np.load(directory / "good_pixels.npy", allow_pickle=False),
        )
        train = _load(plain["train"], directory / "train")
        validation = _load(plain["validation"], directory / "validation") if "validation" in plain else None
        # what a framework writes of its own accord is not kept
        config = dataclasses.replace(config, output_dir=directory)
        execution = dataclasses.replace(
            from_dict(ExecutionConfig, plain["execution"]), logger_backend="none", enable_progress_bar=False
        )
        return cls(train, validation, config, execution, physics, int(plain["size"]), int(plain["port"]))


def _save(container: PtychoDataContainer, directory: Path) -> dict[str, Any]:
    directory.mkdir()
    values: dict[str, Any] = {}
    for field in dataclasses.fields(container):
        value = getattr(container, field.name)
        if isinstance(value, np.ndarray):
            large_arrays.save(value, directory / f"{field.name}.npy")
        elif isinstance(value, tuple):  # of arrays, whose shapes differ
            (directory / field.name).mkdir()
            for number, each in enumerate(value):
                large_arrays.save(each, directory / field.name / f"{number}.npy")
        elif value is not None:
            values[field.name] = value
    return values


def _load(values: dict[str, Any], directory: Path) -> PtychoDataContainer:
    arrays: dict[str, Any] = {path.stem: _mapped(path) for path in directory.glob("*.npy")}
    for several in (path for path in directory.iterdir() if path.is_dir()):
        files = sorted(several.glob("*.npy"), key=lambda path: int(path.stem))
        arrays[several.name] = tuple(_mapped(path) for path in files)
    return PtychoDataContainer(**arrays, **values)


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


class Ranks:
    """The processes of rank 1 and above, from the first process' point of view; see :func:`started`."""

    def __init__(self, member: Member, directory: Path) -> None:
        self.size = member.size
        self._directory = directory
        self._said = [directory / f"rank-{rank}.log" for rank in range(1, self.size)]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._is_over = False

    def start(self) -> None:
        """Start them; they load their framework meanwhile."""
        environment = {**os.environ, "PYTHONPATH": import_path(), "PYTHONUNBUFFERED": "1"}
        for rank, log in enumerate(self._said, 1):
            with log.open("wb") as file:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-P", "-m", _MODULE, str(self._directory), str(rank)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=file,
                        env=environment,
                    )
                )
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pids(self) -> list[int]:
        """Process ids, of rank 1 first."""
        return [process.pid for process in self._processes]

    def wait(self, reporter: TrainingReporter) -> None:
        """Return once all of them are ready.

        Raises
        ------
        RankError
            If one has ended.
        StopRequested
            If the training was asked to stop.
        """
        for process in self._processes:
            assert process.stdout is not None
            while not select.select([process.stdout], [], [], _ASK_S)[0]:
                reporter.ask()
            if process.stdout.readline() != READY:
                raise self.error(_START_S) or RankError("A process of the training has ended.")

    def error(self, within_s: float = _DEATH_S) -> RankError | None:
        """What is to be said about one that has ended before its time; None if none has."""
        deadline = time.monotonic() + within_s
        while True:
            ended = [(rank, one.poll()) for rank, one in enumerate(self._processes, 1)]
            # one that has lost another is no cause
            failed = [(rank, code) for rank, code in ended if code not in (None, 0, LOST)]
            if failed:
                rank, code = failed[0]
                assert code is not None
                return RankError(self._account(rank, code))
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)

    def _account(self, rank: int, code: int) -> str:
        pid = self._processes[rank - 1].pid
        told = self._directory / f"rank-{rank}.error"
        name = f"Rank {rank} of {self.size} (process {pid})"
        if told.is_file():
            return f"{name} failed: {told.read_text(encoding='utf-8')}"
        if code < 0:
            with contextlib.suppress(ValueError):
                name = f"{name} was ended by {signal.Signals(-code).name}."
                if -code == signal.SIGKILL:
                    name += (
                        " The machine probably ran out of memory: use fewer devices, or a lower batch_size."
                    )
                return name
        lines = self._said[rank - 1].read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{name} ended without an answer (exit code {code}). " + " ".join(lines[-_LINES:])

    def _watch(self) -> None:
        """Leave collective operations in which this process waits for one that has ended.

        Those of CPUs notice it by themselves, since its connection is closed.
        """
        while not self._is_over:
            time.sleep(_ASK_S)
            if any(one.poll() not in (None, 0) for one in self._processes):
                with contextlib.suppress(Exception):
                    if torch.distributed.get_backend() == "nccl":
                        torch.distributed.distributed_c10d._abort_process_group()
                return

    def close(self, *, finished: bool) -> None:
        """End them; ``finished``: they are about to end by themselves."""
        self._is_over = True
        deadline = time.monotonic() + (_END_S if finished else 0.0)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


@contextlib.contextmanager
def started(
    member: Member,
    train: PtychoDataContainer,
    validation: PtychoDataContainer | None,
    config: TrainingConfig,
    execution: ExecutionConfig,
    physics: InitialPhysics,
) -> Iterator[Ranks | None]:
    """The further processes, if it is this package that starts them; at the end none is left, nor a file.

    The cores are divided among the processes that compute on them.
    """
    if member.port is None or member.rank > 0:
        yield None
        return
    variables = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="ptychopinn-ranks-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        try:
            Task(train, validation, config, execution, physics, member.size, member.port).save(directory)
        except OSError as exc:
            raise RuntimeError(
                f"The data for the further processes could not be written to {directory.parent} "
                f"({exc.strerror}): make room there, set TMPDIR to another directory, or "
                "ExecutionConfig.devices to 1."
            ) from exc
        ranks, finished = Ranks(member, directory), False
        try:
            share_cores(member.size)
            ranks.start()
            yield ranks
            finished = True
        finally:
            ranks.close(finished=finished)
            with contextlib.suppress(Exception):
                torch.distributed.destroy_process_group()
            torch.set_num_threads(threads)
            for variable, value in variables.items():  # Lightning has set them
                if value is None:
                    os.environ.pop(variable, None)
                else:
                    os.environ[variable] = value


def share_cores(size: int) -> None:
    """Have this process compute with its part of the threads that it would have alone."""
    torch.set_num_threads(max(1, torch.get_num_threads() // size))


def is_lost(exc: BaseException) -> bool:
    """Whether an exception says that the connection to another process is broken."""
    text = str(exc).lower()
    return isinstance(exc, torch.distributed.DistError) or "gloo" in text or "nccl" in text
