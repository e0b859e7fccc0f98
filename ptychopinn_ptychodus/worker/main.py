"""What runs in the child process: a job, from ``job.json`` to the result, and others after it.

What passes between the processes is described in :mod:`.wire`.

``python -m ptychopinn_ptychodus.worker.main DIRECTORY SECONDS``

After a job that has ended well, it waits for another one for so many seconds, and then ends.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backends.kept import kept_model
from .job import Job, PretrainJob, RefineJob, TrainJob, read_job
from .pretrain import pretrain
from .reconstruct import reconstruct, refine_start
from .rest import rest
from .train import train
from .wire import STOP, Send, describe_error, read_order_of_job

ORPHAN_GRACE_S = 60.0


class Channel:
    """The worker's way to the parent: standard output, out of reach of whatever libraries print."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, kind: str, **fields: Any) -> None:
        """Write one message; a parent that is gone is no error here, since the job is told to stop."""
        line = json.dumps({"kind": kind, **fields})
        try:
            with self._lock:
                self._file.write(line + "\n")
                self._file.flush()
        except (OSError, ValueError):
            pass


class ChannelHandler(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._channel.send("log", level=record.levelno, name=record.name, text=self.format(record))
        except Exception:
            self.handleError(record)


class Orders:
    """What the parent says on standard input; from Ctrl-C, too.

    Attributes
    ----------
    stop
        Set when the run is to keep its best state and end.
    orphaned
        Set when the parent is gone. A process that has not finished a while later has nobody left to end it,
        or to remove ``directory``, and does both itself.
    """

    def __init__(self, directory: Path) -> None:
        self.stop = threading.Event()
        self.orphaned = threading.Event()
        self._directory = directory
        self._jobs: queue.SimpleQueue[tuple[Path, float] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        # Ctrl-C at the terminal reaches parent and child alike: keep what has been learnt until then.
        signal.signal(signal.SIGINT, lambda *_: self.stop.set())

    def next_job(self, wait_s: float) -> tuple[Path, float] | None:
        """Wait for another job: its directory, and the seconds to stay after it; None if there is none."""
        try:
            order = self._jobs.get(timeout=wait_s)
        except queue.Empty:
            return None
        if order is not None:
            self._directory = order[0]
            self.stop.clear()  # what Ctrl-C has set while there was nothing to stop
        return order

    def _listen(self) -> None:
        rest = b""
        # not sys.stdin: an interpreter that ends while a thread holds its buffer dies of it
        while received := os.read(0, 4096):
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                if line.strip() == STOP.encode():
                    self.stop.set()
                elif line.strip():
                    self._jobs.put(read_order_of_job(line.decode()))
        self.orphaned.set()
        self.stop.set()
        self._jobs.put(None)
        timer = threading.Timer(ORPHAN_GRACE_S, self._give_up)
        timer.daemon = True
        timer.start()

    def _give_up(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        os._exit(1)


def run_job(job: Job, directory: Path, send: Send, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Run one job, in whichever process this is, and return the fields of its result message.

    Parameters
    ----------
    directory
        The job's: scans lie in it, and objects are left in it.
    send
        Called with the kind and the fields of each message, see :mod:`.wire`.
    should_stop
        Asked after every batch; when it answers True, the best state so far is kept.
    """
    try:
        if isinstance(job, TrainJob):
            return train(job, send, should_stop, directory)
        if isinstance(job, PretrainJob):
            return pretrain(job, directory, send, should_stop)
        if isinstance(job, RefineJob):
            return refine_start(job, directory, send, should_stop)
        return reconstruct(job, directory, send, should_stop)
    except InterruptedError:
        return {"stopped": True}


def work(directory: Path, channel: Channel, orders: Orders) -> bool:
    """Run the job in ``directory``, and send how it ends; whether it ended well."""
    try:
        job = read_job(directory)
        logging.getLogger().setLevel(job.log_level)
        result = run_job(job, directory, channel.send, orders.stop.is_set)
    except BaseException as exc:
        channel.send("error", **describe_error(exc))
        return False
    else:
        channel.send("result", **result)
        return True
    finally:
        if orders.orphaned.is_set():  # whoever would have removed it is gone
            shutil.rmtree(directory, ignore_errors=True)


def main(directory: Path, stay_s: float = 0.0) -> int:
    """Run the job in ``directory``; the exit code is for people, the parent reads the messages.

    Jobs that the parent orders within ``stay_s`` seconds are run after it.
    """
    channel = Channel()
    orders = Orders(directory)
    logging.getLogger().addHandler(ChannelHandler(channel))
    if stay_s:
        kept_model.keep()
    while work(directory, channel, orders):
        if not stay_s:
            return 0
        rest()
        order = orders.next_job(stay_s)
        if order is None:
            os._exit(0)  # a framework takes a while to end, and there is nothing left to save
        directory, stay_s = order
        channel.send("begun")
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
