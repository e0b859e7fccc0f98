"""Every supported Ptychodus, with this package put in, used, and taken out again; prints a Markdown table.

    python scripts/matrix.py WORK [--versions 1.5.1 1.6.0 1.7.0] [--output docs/compatibility.md] [--keep]

For each version a fresh environment in WORK: Ptychodus with its window, PyTorch, the engine's packages; then
this package from a wheel built of this tree. Asked: which reconstructors are listed, what the stock commands
``ptychodus -b train`` and ``-b reconstruct`` do with a simulated scan, whether the window has the plugin's
pages, and what is left after ``pip uninstall``. The newest version is also given an editable install. Takes
some minutes a version, and 2 GB of disk, given back unless ``--keep``. Exit code 1 if anything is not as it
should be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHECKS = Path(__file__).with_name("matrix_checks.py")
VERSIONS = ("1.5.1", "1.6.0", "1.7.0")
TORCH = "torch==2.13.0"
KEYS = {"ptychopinn-plugin_pinn", "ptychopinn-plugin_supervised", "ptychopinn-plugin_refinement"}
LEAST_CORRELATION = 0.9
"""A flat object has 0; a few epochs on this scan reach more than this wherever training works at all."""

PAGE = """\
# Which Ptychodus it works with

Written by

    python scripts/matrix.py WORK --output docs/compatibility.md

which makes a fresh environment for each version, and asks it. What it says of ptychopinn-ptychodus {version}:

{table}

- *listed*: a script's `ModelCore()` offers all reconstructors, and has imported neither a framework nor Qt.
- *train*, *reconstruct*: exit code of the stock `ptychodus -b`, and seconds by the clock (what else the
  machine did counts), on a simulated scan: {patterns} patterns of 64 × 64, one thread, PyTorch engine.
- *correlation*: of the object with the truth, centred; 0 is flat, 1 the truth; at least {least} is expected.
- *window*: how many settings the pages of PINN and Supervised show in the stock window.
- *left after uninstall*: files and empty directories of the environment and the home that were not there
  before the install, or that are changed or missing; bytecode of other packages aside.
- *as before*: after that, Ptychodus starts, and lists what it listed before the install.

{editable}

Ptychodus below 1.5.1 and from 2 on is refused by pip.
"""


@dataclass
class Environment:
    """A virtual environment with one Ptychodus in it."""

    version: str
    directory: Path
    log: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def prefix(self) -> Path:
        return self.directory / "env"

    def run(self, *command: str | Path, timeout: float = 1800.0) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, whatever it returns; its output goes to the log."""
        variables = os.environ | {
            "HOME": str(self.home),
            "QT_QPA_PLATFORM": "offscreen",
            "OMP_NUM_THREADS": "1",
            "VIRTUAL_ENV": str(self.prefix),
            "PATH": f"{self.prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        # the application is to find nothing but what is installed
        variables.pop("PYTHONPATH", None)
        program = [str(self.prefix / "bin" / str(command[0])), *map(str, command[1:])]
        done = subprocess.run(
            program, env=variables, cwd=self.home, capture_output=True, text=True, timeout=timeout
        )
        self.log.append(f"$ {' '.join(program)}\n{done.stdout}{done.stderr}[exit {done.returncode}]\n")
        (self.directory / "log.txt").write_text("\n".join(self.log), encoding="utf-8")
        return done

    def pip(self, *arguments: str | Path) -> None:
        done = self.run("python", "-m", "pip", *arguments)
        if done.returncode:
            raise RuntimeError(f"pip {' '.join(map(str, arguments))} failed:\n{done.stderr[-2000:]}")

    def ask(self, *question: str | Path) -> dict[str, Any]:
        """An answer of ``matrix_checks.py``; ``error`` in it says why there is none."""
        done = self.run("python", "-P", CHECKS, *question)
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return answer
        said = done.stderr.strip().splitlines() or ["nothing was said"]
        return {"error": f"exit {done.returncode}: {said[-1]}"}

    def version_of(self, package: str) -> str:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return self.run("python", "-c", code).stdout.strip()


@dataclass(frozen=True)
class Cell:
    """What stands in the table, and whether it is as it should be."""

    text: str
    good: bool = True


def files_of(environment: Environment) -> dict[str, tuple[int, int]]:
    """Size and time of every file and empty directory of the environment and its home."""
    found = {}
    for folder, directories, names in os.walk(environment.directory):
        for name in names if names or directories else [""]:
            path = Path(folder, name)
            status = path.lstat()
            # an empty directory has a size and a time that mean nothing
            found[str(path)] = (status.st_size, status.st_mtime_ns) if name else (0, 0)
    return {path: value for path, value in found.items() if not path.endswith("/log.txt")}


def left_behind(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """Paths that differ, without the bytecode that running other packages has written."""
    differ = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    return sorted(path for path in differ if "__pycache__" not in path or "ptychopinn" in path)


def make(version: str, directory: Path, torch: str) -> Environment:
    """An environment with Ptychodus and all that the package needs, but not the package."""
    shutil.rmtree(directory, ignore_errors=True)
    environment = Environment(version, directory)
    environment.home.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", environment.prefix], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    environment.pip("install", "-q", torch)
    environment.pip(
        "install",
        "-q",
        f"ptychodus[gui]=={version}",
        *project["dependencies"],
        *extras["torch"],
        *extras["gui"],
    )
    return environment


def taken_out(environment: Environment, before: dict[str, tuple[int, int]], listed: Any) -> list[Cell]:
    """Uninstall; the cells *left after uninstall* and *as before*."""
    environment.pip("uninstall", "-q", "-y", "ptychopinn-ptychodus")
    left = left_behind(before, files_of(environment))
    now = environment.ask("listed")
    starts = environment.run("ptychodus", "--version").returncode
    same = now == listed and starts == 0
    names = ", ".join(path.removeprefix(f"{environment.directory}/") for path in left[:5])
    return [
        Cell(f"{len(left)} files: {names}" if left else "nothing", not left),
        Cell("yes" if same else "no", same),
    ]


def listed_cell(answer: dict[str, Any]) -> Cell:
    if "error" in answer:
        return Cell(answer["error"], False)
    missing, heavy = KEYS - set(answer["reconstructors"]), answer["frameworks"]
    if missing or heavy:
        return Cell(f"missing: {sorted(missing)}, imported: {heavy}", False)
    return Cell("all")


def used(environment: Environment) -> list[Cell]:
    """The cells *listed*, *train*, *reconstruct*, *correlation*, *window*."""
    cells = [listed_cell(environment.ask("listed"))]
    scan, out = environment.directory / "work" / "scan", environment.directory / "work" / "out"
    simulated = environment.ask("simulate", scan)
    if "error" in simulated:
        raise RuntimeError(f"The scan cannot be simulated: {simulated['error']}")
    for action, target in (("train", scan), ("reconstruct", out)):
        started = time.monotonic()
        code = environment.run("ptychodus", "-b", action, "-i", scan, "-o", target).returncode
        cells.append(Cell(f"{code}, {time.monotonic() - started:.0f} s", code == 0))
    score = environment.ask("score", scan, out)
    if "error" in score:
        cells.append(Cell(score["error"], False))
    else:
        value = score["correlation"]
        cells.append(Cell(f"{value:.3f} (`{score['file']}`)", value >= LEAST_CORRELATION))
    shown = environment.ask("window")
    good = shown.get("exit") == 0
    text = ", ".join(map(str, dict(sorted(shown["settings_shown"].items())).values())) if good else str(shown)
    cells.append(Cell(text, good))
    shutil.rmtree(environment.directory / "work", ignore_errors=True)
    return cells


def table(rows: list[list[Cell]]) -> str:
    heads = ["Ptychodus", "with", "listed", "train", "reconstruct", "correlation", "window"]
    heads += ["left after uninstall", "as before"]
    lines = [heads, ["---"] * len(heads), *([cell.text for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path, help="directory for the environments")
    parser.add_argument(
        "--versions", nargs="+", default=VERSIONS, help="of Ptychodus; the last one is the newest"
    )
    parser.add_argument("--torch", default=TORCH, help="which build of PyTorch, as pip names it")
    parser.add_argument("--output", type=Path, help="write the table and its description here")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    arguments = parser.parse_args()

    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", work / "wheel", ROOT]
    shutil.rmtree(work / "wheel", ignore_errors=True)
    subprocess.run(build, check=True)
    (wheel,) = (work / "wheel").glob("*.whl")

    rows, editable = [], []
    for version in arguments.versions:
        environment = make(version, work / version, arguments.torch)
        listed = environment.ask("listed")
        before = files_of(environment)
        environment.pip("install", "-q", f"ptychopinn-ptychodus[torch,gui] @ {wheel.as_uri()}")
        packages = ("torch", "PyQt5", "numpy")
        with_ = ", ".join(f"{name} {environment.version_of(name)}" for name in packages)
        row = [Cell(version), Cell(f"Python {sys.version.split()[0]}, {with_}")]
        row += used(environment)
        row += taken_out(environment, before, listed)
        rows.append(row)
        print("\n".join(table([row]).splitlines()[2:]), flush=True)
        if version == arguments.versions[-1]:
            before = files_of(environment)
            environment.pip("install", "-q", "-e", f"{ROOT}[torch,gui]")
            editable = [listed_cell(environment.ask("listed")), *taken_out(environment, before, listed)]
        if not arguments.keep:
            shutil.rmtree(environment.prefix)

    text = "; ".join(
        f"{what}: {cell.text}"
        for what, cell in zip(("listed", "left after uninstall", "as before"), editable, strict=True)
    )
    editable_line = f"`pip install -e` of this tree with Ptychodus {arguments.versions[-1]}: {text}."
    print(f"\n{table(rows)}\n\n{editable_line}")
    if arguments.output is not None:
        from matrix_checks import POSITIONS

        page = PAGE.format(
            version=wheel.name.split("-")[1],
            table=table(rows),
            patterns=POSITIONS**2,
            least=LEAST_CORRELATION,
            editable=editable_line,
        )
        arguments.output.write_text(page, encoding="utf-8")
    return 0 if all(cell.good for row in [*rows, editable] for cell in row) else 1


if __name__ == "__main__":
    sys.exit(main())
