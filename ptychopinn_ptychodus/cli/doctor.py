"""``doctor``: what is installed, what works, and the remedy for what does not.

It has to start whatever is missing, so that it can say so: this module and what it imports need nothing but
the standard library.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import __version__
from ..backends import INSTALL_HINT
from ..backends.inspection import answer_in
from ..installed import PackageNotFoundError, packages_distributions, requires, version
from ..ptychodus_io.names import KEYS
from .errors import FAILURE, SUCCESS
from .inspection import MODULE, SHIM

CHILD_TIMEOUT_S = 120.0

OK, NOTE, FAULT = "ok", "-", "FAULT"

# distributions, and the module by which each is recognised
NEEDED = {
    "ptychodus": "ptychodus",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-image": "skimage",
    "matplotlib": "matplotlib",
    "pillow": "PIL",
    "jinja2": "jinja2",
    "platformdirs": "platformdirs",
    "rich": "rich",
    "h5py": "h5py",
    "importlib-metadata": "importlib_metadata",
}

REINSTALL = "pip install --force-reinstall --no-deps ptychopinn-ptychodus"
DISTRIBUTION = "ptychopinn-ptychodus"
BACKEND = "PtychoPINNPluginModel.Backend"


@dataclass(frozen=True)
class Check:
    """One line of the table; a fault comes with its remedy."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def doctor(arguments: argparse.Namespace) -> int:
    """Check the installation; see ``ptychopinn-ptychodus doctor --help``."""
    checks = list(examine())
    _print(checks)
    return FAILURE if any(check.state == FAULT for check in checks) else SUCCESS


def examine() -> Iterator[Check]:
    """Everything that is checked, in the order in which things depend on each other."""
    yield Check("Python", OK, f"{sys.version.split()[0]}, {sys.executable}")
    yield Check("ptychopinn-ptychodus", OK, f"{__version__}, {Path(__file__).parents[1]}")
    yield from _packages()
    yield from _application()
    yield from _engines()
    yield _window()


def _packages() -> Iterator[Check]:
    for name, module in NEEDED.items():
        if find_spec(module) is None:
            yield Check(name, FAULT, "not installed", f'pip install "{_requirement(name)}"')
        else:
            yield Check(name, OK, _version(name))
    for name, use in (
        ("torch", "the Lightning engine"),
        ("lightning", "the Lightning engine"),
        ("tensordict", "the Lightning engine"),
        ("tensorflow", "the TensorFlow engine"),
        ("keras", "the TensorFlow engine"),
        ("mlflow", "the logger mlflow"),
        ("tensorboard", "the logger tensorboard"),
    ):
        # what is missing here is a fault only if no engine works without it: the engines are asked below
        installed = find_spec(name) is not None
        detail = _version(name) if installed else f"not installed (for {use})"
        yield Check(name, OK if installed else NOTE, detail)


def _requirement(name: str) -> str:
    """The version of a package that this one asks for, as it does; the bare name if that is not known."""
    try:
        wanted = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        wanted = []
    core = (line for line in wanted if ";" not in line)
    return next((line for line in core if re.match(rf"{re.escape(name)}(?![\w.-])", line)), name)


def _application() -> Iterator[Check]:
    answer = _ask("application")
    if isinstance(answer, str):
        trial = 'python -c "from ptychodus.model import ModelCore; ModelCore()"'
        remedy = f'pip install --upgrade "ptychodus<2"; if that does not help, see what this says: {trial}'
        yield Check("Ptychodus starts", FAULT, answer, remedy)
        return
    yield Check("Ptychodus starts", OK, f"a stock ModelCore(), {Path(answer['folders'][0]).parent}")
    if answer["shim"]:
        yield Check("Plugin shim", OK, str(Path(answer["shim"][0]) / SHIM))
    else:
        yield _missing_shim(answer["folders"])
    missing = [name for name, key in KEYS.items() if key not in answer["reconstructors"]]
    if missing:
        remedy = f"{REINSTALL}; `ptychopinn-ptychodus doctor` then shows it here"
        if not answer["shim"]:
            remedy = "mend the shim first (above)"
        yield Check("Reconstructors", FAULT, f"Ptychodus does not list {' and '.join(missing)}", remedy)
    else:
        yield Check("Reconstructors", OK, ", ".join(KEYS.values()))
    if answer["frameworks"]:
        yield Check("Light start", NOTE, f"Ptychodus itself imports {', '.join(answer['frameworks'])}")


def _missing_shim(folders: list[str]) -> Check:
    own = Path(sysconfig.get_path("purelib")) / "ptychodus" / "plugins" / SHIM
    detail = f"{SHIM} is not in {' or '.join(folders)}"
    if own.is_file():
        return Check(
            "Plugin shim",
            FAULT,
            f"{detail}; it is in {own.parent}, an environment on top of the one that holds Ptychodus",
            "install Ptychodus into that environment too (pip install --ignore-installed --no-deps "
            f"ptychodus=={_version('ptychodus')}); until then, `ptychopinn-ptychodus train` and "
            "`reconstruct` work without the shim",
        )
    return Check("Plugin shim", FAULT, detail, REINSTALL)


def _engines() -> Iterator[Check]:
    answer = _ask("engines")
    if isinstance(answer, str):
        yield Check("Engines", FAULT, answer, REINSTALL)
        return
    if not answer:
        yield Check("Engines", FAULT, "none is registered", REINSTALL)
        return
    works = False
    for name, engine in answer.items():
        what = f"Engine {name}"
        if engine["missing"] is not None:  # no fault as long as there is another
            yield Check(what, NOTE, engine["missing"])
            continue
        # each in a process of its own: the one that fails must not take the others along
        tried = engine["broken"] or _ask("engine", name)
        if isinstance(tried, str):
            # a fault though others work: "auto" may choose it, and it is there to be used
            hint = f" ({engine['install']})" if engine["install"] else ""
            remedy = f"repair it{hint}, or uninstall it; until then, set {BACKEND} to another engine"
            yield Check(what, FAULT, f"{engine['title']} does not work: {tried}", remedy)
            continue
        works = True
        devices = ", ".join(tried["devices"]) or "none"
        detail = f"{engine['title']}; accelerators: {devices}; loads in {tried['seconds']:.1f} s"
        yield Check(what, OK, detail)
    if not works:
        hints = " or ".join(engine["install"] for engine in answer.values() if engine["install"])
        yield Check("Engines", FAULT, "none works, and one is needed", hints or INSTALL_HINT)


def _window() -> Check:
    if find_spec("PyQt5") is None:
        hint = 'not installed; only the window needs it: pip install "ptychopinn-ptychodus[gui]"'
        return Check("PyQt5", NOTE, hint)
    shown = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return Check("PyQt5", OK, _version("PyQt5") + ("" if shown else "; there is no display here"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # under another name, such as a build for one accelerator
        others = packages_distributions().get(name, [])
        return ", ".join(f"{version(other)} ({other})" for other in others) or "installed"


def _ask(*question: str) -> dict[str, Any] | str:
    """The answer of a child process, or why there is none."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", MODULE, *question],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {CHILD_TIMEOUT_S:.0f} s"
    answer = answer_in(done.stdout)
    if answer is None:
        said = done.stderr.strip().splitlines()
        return f"{said[-1] if said else 'no answer'} (exit code {done.returncode})"
    return answer


def _print(checks: list[Check]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:  # one of the checks
        _print_plainly(checks)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # so that no command is broken in two
    table = Table(box=None, pad_edge=False)
    for heading in ("", "State", "Detail"):
        table.add_column(heading, overflow="fold")
    colours = {OK: "green", NOTE: "yellow", FAULT: "bold red"}
    for check in checks:
        table.add_row(Text(check.what), Text(check.state, style=colours[check.state]), Text(check.detail))
    console.print(table)
    for words in _conclusions(checks):
        console.print(Text(f"\n{words}"), soft_wrap=True)


def _print_plainly(checks: list[Check]) -> None:
    what, state = (max(len(getattr(check, name)) for check in checks) for name in ("what", "state"))
    for check in checks:
        print(f"{check.what:{what}}  {check.state:{state}}  {check.detail}")
    for words in _conclusions(checks):
        print(f"\n{words}")


def _conclusions(checks: list[Check]) -> list[str]:
    """The remedy of each fault, or that there is none to mend."""
    faults = [check for check in checks if check.state == FAULT]
    if not faults:
        return ["Everything that is needed works."]
    return [f"{check.what}: {check.detail}\n  remedy: {check.remedy}" for check in faults]
