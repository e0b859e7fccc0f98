"""The process that stays for a while after a run of the library, as the window has it."""

from __future__ import annotations

import logging
import threading

from ptychodus.api.observer import Observable, Observer

from ..backends.registry import get_engine
from ..ptychodus_io.names import LIBRARY
from ..worker.warm import WarmWorker
from .settings import PluginSettings

logger = logging.getLogger(LIBRARY)

KEEP_WARM = "Inference.KeepWarm"


class WarmRuns(Observable):
    """What the reconstructors of the library run in; notifies its observers, in any thread, of changes.

    Without the window, each run has a process of its own: a script, or a headless run, ends after it.

    Attributes
    ----------
    worker
        What the runs are given.
    """

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__()
        self._settings = settings
        self._stays = False
        self.worker = WarmWorker(self._stay_s)
        self.worker.on_change = self.notify_observers
        self._releases = _Releases(self)  # observers are all that Ptychodus keeps of it
        for path in (KEEP_WARM, "Model.Backend", "Training.Accelerator"):
            settings[path].add_observer(self._releases)

    @property
    def says(self) -> str:
        """What waits, for people; empty if nothing does."""
        if not self.worker.waits:
            return ""
        name = self.worker.engine
        if name is None:
            return "Ready, without a framework"
        try:
            return f"Ready: {get_engine(name).title}"
        except (RuntimeError, ValueError):  # it has been uninstalled meanwhile
            return f"Ready: {name}"

    def stay(self) -> None:
        """From now on, have the process of a run stay after it: there is a window, and a next run."""
        self._stays = True

    def release(self) -> None:
        """Have what waits end, and free what it holds; returns at once."""
        if self.worker.waits:
            threading.Thread(target=self.worker.release, daemon=True).start()

    def close(self) -> None:
        """End what waits, and have nothing stay any more."""
        self._stays = False
        self.worker.close()

    def _stay_s(self) -> float:
        if not self._stays:
            return 0.0
        try:
            return float(self._settings.value(KEEP_WARM))
        except ValueError as exc:  # no reason to refuse a run
            logger.warning("%s", exc)
            return 0.0


class _Releases(Observer):
    """Ends what waits as soon as it is of no more use: for another engine, or another device."""

    def __init__(self, warm: WarmRuns) -> None:
        super().__init__()
        self._warm = warm

    def _update(self, observable: Observable) -> None:
        self._warm.release()
