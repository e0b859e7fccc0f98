"""The state of the engines: which are installed, which one is used, what accelerators they find."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import Any

from PyQt5.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, pyqtSignal
from PyQt5.QtWidgets import QApplication

from ...backends.inspection import MODULE, answer_in, inspect_engines
from ...config import backend_names
from ...ptychodus_io.names import LIBRARY
from ...settings_table import AUTO
from ...worker.interpreter import child_environment
from ..selection import preferred_backend
from ..settings import PluginSettings
from .widgets import Form, InfoLabel, Relay

logger = logging.getLogger(LIBRARY)

DELAY_MS = 500
"""Until the first engine is asked: the page comes first."""

TIMEOUT_MS = 120_000


@dataclass(frozen=True)
class EngineState:
    """One engine, for people: a short word, and the rest."""

    title: str
    text: str
    tip: str
    is_usable: bool


class EngineStates(QObject):
    """What the engines say, asked for once in a session and one after the other.

    Only importing a framework shows its accelerators, and the application's process must not: each engine is
    asked in a process of its own.
    """

    changed = pyqtSignal()

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__()
        self._settings = settings
        self._engines: dict[str, dict[str, Any]] = {}
        self._devices: dict[str, list[str] | str] = {}
        self._process: QProcess | None = None
        self._asked = ""
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._end)

    def refresh(self) -> None:
        """Look for engines, and ask those that have not been asked; returns at once."""
        found = inspect_engines()
        order = [name for name in backend_names() if name in found]
        self._engines = {name: found[name] for name in order}
        self.changed.emit()
        QTimer.singleShot(DELAY_MS, self._ask_next)

    def names(self) -> list[str]:
        """In the order in which ``auto`` tries them."""
        return list(self._engines)

    def in_use(self) -> str | None:
        """The engine that would train now, installed or not."""
        backend = str(self._settings.shown("Model.Backend"))
        return preferred_backend(self._settings) if backend == AUTO else backend

    def state(self, name: str) -> EngineState:
        """What is known about an engine."""
        engine, devices = self._engines[name], self._devices.get(name)
        title = engine["title"]
        if engine["broken"]:
            return EngineState(title, "cannot be loaded", engine["broken"], False)
        if engine["missing"]:
            return EngineState(title, "not installed", str(engine["install"]), False)
        if devices is None:
            return EngineState(title, "installed, looking for a GPU …", "", True)
        if isinstance(devices, str):
            return EngineState(title, "installed, but does not work", devices, True)
        accelerators = [device for device in devices if device != "cpu"]
        if accelerators:
            return EngineState(title, f"installed, finds {', '.join(accelerators)}", "", True)
        return EngineState(title, "installed, CPU only", "It finds no accelerator on this machine.", True)

    def _ask_next(self) -> None:
        waiting = (
            name
            for name, engine in self._engines.items()
            if name not in self._devices and not engine["missing"] and not engine["broken"]
        )
        name = next(waiting, None)
        if self._process is not None or name is None or not sys.executable:
            return
        process = QProcess(self)
        environment = QProcessEnvironment()
        for key, value in child_environment().items():
            environment.insert(key, value)
        process.setProcessEnvironment(environment)
        process.finished.connect(self._take_answer)
        process.errorOccurred.connect(self._take_error)
        deadline = QTimer(process)
        deadline.setSingleShot(True)
        deadline.timeout.connect(process.kill)
        deadline.start(TIMEOUT_MS)
        self._process, self._asked = process, name
        # -P: as for the worker
        process.start(sys.executable, ["-P", "-m", MODULE, name])

    def _take_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:  # all others finish as well
            self._take_answer()

    def _take_answer(self, *_: Any) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        answer = answer_in(bytes(process.readAllStandardOutput()).decode(errors="replace"))
        if answer is not None and "devices" in answer:
            self._devices[self._asked] = list(map(str, answer["devices"]))
        else:
            said = bytes(process.readAllStandardError()).decode(errors="replace").strip().splitlines()
            self._devices[self._asked] = said[-1] if said else "It gave no answer."
        process.deleteLater()
        self.changed.emit()
        self._ask_next()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.waitForFinished(1000)


class EngineRows(QObject):
    """Rows of a form, one for each engine."""

    def __init__(self, states: EngineStates, settings: PluginSettings, form: Form) -> None:
        super().__init__(form)
        self._states = states
        self._form = form
        self._rows: dict[str, _EngineRow] = {}
        states.changed.connect(self.show)
        Relay(self.show, self).watch(settings["Model.Backend"])

    def show(self) -> None:
        """Bring the rows up to date."""
        used = self._states.in_use()
        for name in self._states.names():
            state = self._states.state(name)
            if name not in self._rows:
                self._rows[name] = _EngineRow(self._form, state.title)
            self._rows[name].show(state, name == used)
        self._form.show_rows({row.remedy: bool(row.remedy.text()) for row in self._rows.values()})


class _EngineRow:
    def __init__(self, form: Form, title: str) -> None:
        self._status, self.remedy = InfoLabel(), InfoLabel()
        self._label = form.add(f"{title}:", self._status)
        form.add_wide(self.remedy)  # all of it: a line to type in is of no use with a gap in the middle

    def show(self, state: EngineState, is_used: bool) -> None:
        mark = ("●" if is_used else "○") if state.is_usable else "✗"
        use = "Runs use it, with Backend as it is." if is_used else "Not used, with Backend as it is."
        self._status.show_text(f"{mark} {state.text}", "\n".join((use, state.tip or state.text)))
        self.remedy.show_text("" if state.is_usable else state.tip)
        for label in (self._label, self._status):
            font = label.font()
            font.setBold(is_used)
            label.setFont(font)
