"""What runs in the child process: one job, from ``job.json`` to the result; see :mod:`.wire`.

``python -m ptychopinn_ptychodus.worker.main DIRECTORY``
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .job import Job, PretrainJob, RefineJob, TrainJob, read_job
from .pretrain import pretrain
from .reconstruct import reconstruct, refine_start
from .train import train
from .wire import Send, describe_error

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


def listen_for_stop(stop: threading.Event, orphaned: threading.Event, directory: Path) -> None:
    """Set ``stop`` on a line of standard input, at its end, and on Ctrl-C.

    At its end the parent is gone: a process that has not finished a while later has nobody left to end it, or
    to remove ``directory``.
    """

    def give_up() -> None:
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(1)

    def listen() -> None:
        # not sys.stdin: an interpreter that ends while a thread holds its buffer dies of it
        while os.read(0, 4096):
            stop.set()
        orphaned.set()
        stop.set()
        timer = threading.Timer(ORPHAN_GRACE_S, give_up)
        timer.daemon = True
        timer.start()

    threading.Thread(target=listen, daemon=True).start()
    # Ctrl-C at the terminal reaches parent and child alike: keep what has been learnt until then.
    signal.signal(signal.SIGINT, lambda *_: stop.set())


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


def main(directory: Path) -> int:
    """Run the job in ``directory``; the exit code is for people, the parent reads the messages."""
    channel = Channel()
    stop = threading.Event()
    orphaned = threading.Event()
    listen_for_stop(stop, orphaned, directory)
    try:
        job = read_job(directory)
        root = logging.getLogger()
        root.addHandler(ChannelHandler(channel))
        root.setLevel(job.log_level)
        result = run_job(job, directory, channel.send, stop.is_set)
    except BaseException as exc:
        channel.send("error", **describe_error(exc))
        return 1
    else:
        channel.send("result", **result)
    finally:
        if orphaned.is_set():  # whoever would have removed it is gone
            shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
