"""Scans that are reconstructed while they are recorded, as the window follows them.

What a live run leaves in its directory (:mod:`..live.status`) is all that is looked at: it does not matter
who has started it. It is followed in a thread of its own, and not in the application's, of which there is
one: products are loaded, and others reconstructed, meanwhile.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ptychodus.api.observer import Observable

from ..live.status import OBJECT_PICTURE, STATUS_FILE, LiveStatus, Stage
from ..ptychodus_io.names import DIFFRACTION_FILE, LIBRARY, PRODUCT_FILE
from ..remembered import new_directory
from .live_process import LiveProcess
from .settings import PluginSettings

logger = logging.getLogger(LIBRARY)

AddProduct = Callable[[Path, Path | None], object]
"""Adds a product file to those that are open, with the patterns in a file, if there are any; soon, from any
thread."""

_POLL_S = 0.25
_UNREADABLE_S = 10.0
STOP_GRACE_S = 20.0
"""Seconds that a run of the window is given to leave its newest product, after Stop."""
_CLOSING_GRACE_S = 5.0
LIVE = "live"
"""Where runs of the window go, beside remembered models."""


class LiveRuns(Observable):
    """The live run that the window follows; notifies its observers, in any thread, of changes.

    Attributes
    ----------
    status
        Newest word of the run that is followed, or of the last one; None before there is one.
    directory
        Of its result.
    """

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__()
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._is_left = False
        self._grace_s = STOP_GRACE_S
        self.status: LiveStatus | None = None
        self.directory: Path | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is followed."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_left(self) -> bool:
        """Whether it has been, or is about to be, left before it was over."""
        return self._is_left

    @property
    def picture(self) -> Path | None:
        """Amplitude and phase so far; None before there is something to see."""
        if self.directory is None or self.status is None or not self.status.in_object:
            return None
        return self.directory / OBJECT_PICTURE

    def follow(self, directory: Path, add_product: AddProduct) -> None:
        """Follow the run that leaves its result in ``directory``, whoever has started it.

        Parameters
        ----------
        directory
            As it was named with ``-o``.
        add_product
            Given the result, when the run has ended or is left.

        Raises
        ------
        ValueError, OSError
            If there is no such run.
        RuntimeError
            If another one is followed.
        """
        self._refuse_second()
        status = LiveStatus.load(directory)
        logger.info('Following the live run in "%s".', directory)
        self._begin(directory, status, None, add_product)

    def start(self, source: Path, algorithm: str, model: Path | None, add_product: AddProduct) -> Path:
        """Start a run on the scan that is being recorded to ``source``, follow it, and return its directory.

        Parameters
        ----------
        source
            Directory with the scan's product, and frames, or none yet.
        algorithm
            Name of the reconstructor.
        model
            Its model; None if it needs none.
        add_product
            As for :meth:`follow`.

        Raises
        ------
        OSError
            If there is no place for the result, or no process can be started.
        RuntimeError
            If another one is followed.
        """
        self._refuse_second()
        directory = new_directory(source.name, LIVE)
        process = LiveProcess(source, directory, algorithm, model, self._settings)
        logger.info('Following the scan in "%s"; the result goes to "%s".', source, directory)
        self._begin(directory, LiveStatus(Stage.WAITING, "starting"), process, add_product)
        return directory

    def stop(self) -> None:
        """Leave the run, with its newest product; returns at once.

        One that was started here ends. Others go on.
        """
        self._leave()
        self.notify_observers()

    def close(self) -> None:
        """As :meth:`stop`, and wait for that."""
        self._grace_s = _CLOSING_GRACE_S
        self._leave()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _leave(self) -> None:
        self._is_left = self.is_running and not (self.status is not None and self.status.is_over)
        self._stop.set()

    def _refuse_second(self) -> None:
        if self.is_running:
            raise RuntimeError("A live run is followed already: stop it before another one.")

    def _begin(
        self, directory: Path, status: LiveStatus, process: LiveProcess | None, add_product: AddProduct
    ) -> None:
        self._stop.clear()
        self._is_left = False
        self.directory, self.status = directory, status
        self._thread = threading.Thread(
            target=self._follow, args=(directory, process, add_product), name="live run", daemon=True
        )
        self._thread.start()
        self.notify_observers()

    # ------------------------------------------------------------------ the thread

    def _follow(self, directory: Path, process: LiveProcess | None, add_product: AddProduct) -> None:
        try:
            self._watch(directory, process)
            if process is not None:
                self._end(directory, process)
        except Exception as exc:  # a thread has nobody above it
            logger.exception("The live run could not be followed to its end.")
            self._take(LiveStatus(Stage.FAILED, str(exc)))
        finally:
            if process is not None:
                process.kill()
        self._conclude(directory, add_product)
        self._thread = None
        self.notify_observers()

    def _watch(self, directory: Path, process: LiveProcess | None) -> None:
        """Take what is new of the status until the run is over or left."""
        unreadable_since: float | None = None
        while not self._stop.is_set():
            # before the status, which is the last word of a process that has ended
            has_ended = process is not None and process.has_ended()
            problem = self._look(directory)
            status = self.status
            assert status is not None
            if problem is None:
                unreadable_since = None
            elif process is None or has_ended:  # one that starts has not written it yet
                unreadable_since = unreadable_since or time.monotonic()
            if status.is_over:
                return
            if has_ended or (process is None and status.is_orphaned):
                said = "its process has ended without a word" if process is None else process.last_words()
                self._take(_failed(status, said))
                return
            if unreadable_since is not None and time.monotonic() - unreadable_since > _UNREADABLE_S:
                self._take(_failed(status, f"its status cannot be read any more: {problem}"))
                return
            self._stop.wait(_POLL_S)

    def _end(self, directory: Path, process: LiveProcess) -> None:
        """Have a run of ours leave its newest product, and end; kill it if it takes too long."""
        asked: Stage | None = None
        deadline = time.monotonic() + self._grace_s
        while not process.has_ended() and time.monotonic() < deadline:
            assert self.status is not None
            if not self.status.is_over:  # it has been left, and not ended by itself
                self._look(directory)
                # the first word ends the scan, after which it writes all there is, and the second the rest
                now = Stage.COMPLETING if self.status.stage is Stage.COMPLETING else Stage.FOLLOWING
                if now is not asked:
                    process.end()
                    asked = now
            time.sleep(_POLL_S / 5)
        if asked is not None:
            self._look(directory)

    def _look(self, directory: Path) -> Exception | None:
        """Take the status if it is a new one; what was in the way of reading it."""
        try:
            self._take(LiveStatus.load(directory))
        except (OSError, ValueError) as exc:
            return exc
        return None

    def _take(self, status: LiveStatus) -> None:
        if repr(status) != repr(self.status):  # NaN is not NaN
            self.status = status
            self.notify_observers()

    def _conclude(self, directory: Path, add_product: AddProduct) -> None:
        """Say how it has ended, and have its product added."""
        status, product = self.status, directory / PRODUCT_FILE
        assert status is not None
        for note in status.notes:
            logger.warning("Live: %s", note)
        if status.stage is Stage.FAILED and not self.is_left:
            logger.error("The live run failed: %s", status.says)
        if status.in_object and product.is_file():
            ended = "as it was when it was left" if self.is_left else status.says
            logger.info('The product of the live run (%s) is "%s".', ended, product)
            frames = Path(status.scan) / DIFFRACTION_FILE if status.scan else None
            if frames is None or not frames.is_file():
                frames = None
                logger.warning(
                    "The frames of the live run are not all there yet: its product is opened without them. "
                    "To refine it further, choose the directory of its result again when it is over."
                )
            add_product(product, frames)
        else:
            logger.warning("The live run has left no product.")


def _failed(status: LiveStatus, says: str) -> LiveStatus:
    return dataclasses.replace(status, stage=Stage.FAILED, says=says)


def is_live_run(directory: Path) -> bool:
    """Whether a live run leaves, or has left, its result there."""
    return (directory / STATUS_FILE).is_file()
