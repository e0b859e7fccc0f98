"""What runs in a further process of a training on several devices, see :mod:`.ranks`.

``python -m ptychopinn_ptychodus.backends.lightning.rank DIRECTORY RANK``. It trains with the others, and
neither reports nor writes.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from ..reporter import StopRequested, TrainingReporter
from .group import local_member
from .ranks import LOST, READY, Task, is_lost, share_cores
from .training import train

_LISTENER_S = 1.0  # a connection may be closed before the pipe is


def main(directory: Path, rank: int) -> int:
    """Train as rank ``rank``; the exit code says how that has ended."""
    channel = os.dup(1)
    os.dup2(2, 1)
    _end_with_the_first(directory)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first one as well, which stops all
    try:
        task = Task.load(directory)
        share_cores(task.size)

        def ready() -> None:
            os.write(channel, READY)
            os.close(channel)

        train(
            task.train,
            task.validation,
            task.config,
            task.execution,
            TrainingReporter(),
            member=local_member(rank, task.size, task.port),
            physics=task.physics,
            on_ready=ready,
        )
    except StopRequested:
        pass
    except Exception as exc:
        cause: BaseException | None = exc
        while cause is not None:
            if is_lost(cause):
                # where the first one is gone, the listener removes what it has left, and ends this one
                time.sleep(_LISTENER_S)
                return LOST
            cause = cause.__cause__
        (directory / f"rank-{rank}.error").write_text(str(exc), encoding="utf-8")
        return 1
    return 0


def _end_with_the_first(directory: Path) -> None:
    """End this process when standard input ends: then the first process is gone, however that came about."""

    def listen() -> None:
        while os.read(0, 64):
            pass
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(LOST)

    threading.Thread(target=listen, daemon=True).start()


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stderr.flush()
    os._exit(code)  # a user who has stopped the training waits for it, and a framework takes its time
