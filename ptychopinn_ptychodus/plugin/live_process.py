"""The command ``ptychopinn-ptychodus live`` as the window starts it, and ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path

from ..worker.interpreter import child_environment
from .settings import PluginSettings

_COMMAND = "ptychopinn_ptychodus.cli"
_LOG_FILE = "live.log"
_SETTINGS_FILE = "settings.ini"
_KILL_GRACE_S = 2.0
_LAST_LINES = 10


class LiveProcess:
    """A process that follows a scan, and reconstructs it as a whole in the end.

    It has no window and no pipe to this process: what it says goes to a file, and a window that dies takes
    nothing with it.

    Parameters
    ----------
    source
        Directory of the scan.
    output
        Empty directory for the result.
    algorithm
        Name of the reconstructor.
    model
        Model file; None for the reconstructor that needs none.
    settings
        Handed over as they are.

    Raises
    ------
    OSError
        If it cannot be started.
    """

    def __init__(
        self, source: Path, output: Path, algorithm: str, model: Path | None, settings: PluginSettings
    ) -> None:
        self._log = output / _LOG_FILE
        save_settings(settings, output / _SETTINGS_FILE)
        arguments: list[object] = ["live", "-i", source, "-o", output, "--algorithm", algorithm]
        arguments += ["-s", output / _SETTINGS_FILE]
        if model is not None:
            arguments += ["-m", model]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _COMMAND, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(),
                start_new_session=True,  # what it starts ends with it
            )

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Have it end what it is at: the scan, or the reconstruction of all frames; returns at once."""
        if not self.has_ended():
            self._process.terminate()

    def kill(self) -> None:
        """End it with all that it has started."""
        if self.has_ended():
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_GRACE_S)

    def last_words(self) -> str:
        """The end of what it has said, or how it has ended."""
        lines: Sequence[str] = ()
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        said = errors[-1] if errors else "\n".join(lines)
        return said or f"its process has ended with exit code {self._process.returncode}"


def save_settings(settings: PluginSettings, path: Path) -> None:
    """Write all settings as a settings file of Ptychodus has them; ``OSError`` if that fails."""
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    for group in settings.groups:
        values = {name: each.get_value_as_string() for name, each in group.group.parameters().items()}
        parser[group.name] = values
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)
