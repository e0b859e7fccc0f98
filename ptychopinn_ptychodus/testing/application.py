"""The stock application in a process of its own."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ptychodus.api.reconstruct import ReconstructorLibrary

from ..installed import entry_points

LIBRARY_GROUP = "ptychodus.reconstructor_libraries"

STOCK_LIMIT_S = 300.0
"""For Ptychodus to start without plugins: nothing of the library, whose limit is the contract's, runs."""

# Each of these starts with the path of this process, and leaves a report when it ends.
_PROLOGUE = """
import atexit, json, sys
path, report_path, arguments = json.loads(sys.argv[1])
sys.path[:] = path
report = {}
def leave():
    report["modules"] = sorted(sys.modules)
    with open(report_path, "w") as file:
        json.dump(report, file)
atexit.register(leave)
"""

# What "python -m ptychodus" does.
_COMMAND = """
import runpy
sys.argv[:] = ["ptychodus", *arguments]
runpy.run_module("ptychodus", run_name="__main__", alter_sys=True)
"""

# Ptychodus as it is without plugins: whatever they did to the constructor that gets the libraries is undone,
# and what they imported is not counted. (Ptychodus' own modules in ptychodus.plugins import no framework.)
_STOCK = """
import inspect
from ptychodus.api.plugins import PluginRegistry
from ptychodus.model.processing.core import ProcessingCore
from ptychodus.model import ModelCore
original = ProcessingCore.__init__
before = set(sys.modules)
plugins = PluginRegistry.load_plugins()
loaded = set(sys.modules)
PluginRegistry.load_plugins = classmethod(lambda cls: plugins)
def note(self, *positional, **named):
    bound = inspect.signature(original).bind(self, *positional, **named)
    report["libraries"] = [library.name for library in bound.arguments["algorithm_libraries"]]
    original(self, *positional, **named)
ProcessingCore.__init__ = note
report["settings_groups"] = list(ModelCore().settings_registry)
report["own_modules"] = sorted(before | (set(sys.modules) - loaded))
"""

_LIST = """
from ptychodus.model import ModelCore
report["keys"] = list(ModelCore().workflow_api.available_reconstructors())
"""


@dataclass(frozen=True)
class ProcessReport:
    """How a process ended."""

    returncode: int | None
    """None if it had to be ended."""
    output: str
    """What it wrote, errors included."""
    modules: frozenset[str]
    """What it had imported; empty if it could not say so."""
    noted: dict[str, list[str]]


@dataclass(frozen=True)
class Stock:
    """What belongs to Ptychodus itself."""

    libraries: Sequence[str]
    settings_groups: Sequence[str]
    modules: frozenset[str]
    """What it imports; not what the modules in ``ptychodus.plugins`` import when they are loaded."""


def _run(code: str, path: Sequence[str], arguments: Sequence[str] = (), *, limit_s: float) -> ProcessReport:
    with tempfile.TemporaryDirectory(prefix="contract-") as directory:
        report_path = Path(directory, "report.json")
        given = json.dumps([list(path), str(report_path), list(arguments)])
        try:
            done = subprocess.run(
                [sys.executable, "-c", _PROLOGUE + code, given],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                cwd=directory,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            said = exc.output if isinstance(exc.output, str) else (exc.output or b"").decode(errors="replace")
            return ProcessReport(None, said, frozenset(), {})
        noted = json.loads(report_path.read_text()) if report_path.is_file() else {"modules": []}
    return ProcessReport(done.returncode, done.stdout, frozenset(noted.pop("modules")), noted)


@functools.cache
def stock() -> Stock:
    """What the installed Ptychodus has without any plugin.

    Raises
    ------
    RuntimeError
        If it does not start.
    """
    report = _run(_STOCK, sys.path, limit_s=STOCK_LIMIT_S)
    if report.returncode != 0:
        raise RuntimeError(f"Ptychodus itself does not start here:\n{report.output}")
    return Stock(
        report.noted["libraries"], report.noted["settings_groups"], frozenset(report.noted["own_modules"])
    )


class Application:
    """Ptychodus with the library in it.

    A library that no installed package registers is registered for these processes alone: by a directory on
    their path that holds nothing but an entry point.

    Parameters
    ----------
    library
        The library, as it names itself.
    factory
        What makes it.
    directory
        Empty; kept as long as the application is run.
    built_in
        Whether Ptychodus has it anyway.
    limit_s
        A command that takes longer, the start of Ptychodus included, counts as hanging.
    """

    def __init__(
        self,
        library: ReconstructorLibrary,
        factory: object,
        directory: Path,
        *,
        built_in: bool,
        limit_s: float,
    ) -> None:
        self._limit_s = limit_s
        self._path = list(sys.path)
        registered = {ep.name.casefold() for ep in entry_points(group=LIBRARY_GROUP)}
        if built_in or library.name.casefold() in registered:
            return
        module = getattr(factory, "__module__", None)
        name = getattr(factory, "__qualname__", None)
        if module is None or name is None or "<" in name:
            raise ValueError(
                f"{factory!r} has no name under which another process could import it. Make it a class or a "
                "function at the top of a module, or set headless = False."
            )
        metadata = directory / "library_under_test-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: library-under-test\nVersion: 1.0\n", encoding="utf-8"
        )
        (metadata / "entry_points.txt").write_text(
            f"[{LIBRARY_GROUP}]\n{library.name} = {module}:{name}\n", encoding="utf-8"
        )
        self._path.append(str(directory))

    def list_reconstructors(self) -> ProcessReport:
        """``keys`` of the reconstructors that are offered, in ``noted``."""
        return _run(_LIST, self._path, limit_s=self._limit_s)

    def run(self, *arguments: str) -> ProcessReport:
        """``python -m ptychodus ARGUMENTS``."""
        return _run(_COMMAND, self._path, arguments, limit_s=self._limit_s)

    def batch(self, action: str, source: Path, target: Path) -> ProcessReport:
        """``python -m ptychodus -b ACTION -i SOURCE -o TARGET``."""
        return self.run("-b", action, "-i", str(source), "-o", str(target))
