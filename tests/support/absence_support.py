"""Environments without a framework: real ones, made of what is installed here, without a download."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

# What installing an engine's extra brings, and what needs that in turn: gone together.
DISTRIBUTIONS = {
    "pytorch": re.compile(r"torch.*|.*lightning.*|tensordict"),
    "tensorflow": re.compile(r"tensorflow.*|tf[-_.].*|keras"),
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the engines whose frameworks it lacks."""

    python: Path
    missing: tuple[str, ...]

    def run(self, *arguments: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Its interpreter, with nothing of the one that runs the tests; packages in ``first`` come first."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [str(self.python), *arguments],
            env=inherited if first is None else {**inherited, "PYTHONPATH": str(first)},
            cwd=self.python.parent,  # not the checkout: the package has to be the installed one
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def ptychodus(
        self, action: str, source: Path, target: Path, first: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``ptychodus -b ACTION -i SOURCE -o TARGET``."""
        command = self.python.with_name("ptychodus")
        return self.run(str(command), "-b", action, "-i", str(source), "-o", str(target), first=first)


def make_environment(directory: Path, missing: Iterable[str]) -> Environment:
    """A virtual environment with everything that is installed here except the frameworks of ``missing``.

    Its packages are links to those of this interpreter, which costs half a second and no disk. Distributions
    are left out whole, with their metadata: nothing in there says that there ever was one.
    """
    missing = tuple(missing)
    venv.EnvBuilder(symlinks=True, with_pip=False).create(directory)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(directory), "platbase": str(directory)}))
    left_out = _entries(missing)
    for source in dict.fromkeys(sysconfig.get_path(key) for key in ("purelib", "platlib")):
        for entry in Path(source).iterdir():
            link = site / entry.name
            if entry.name not in left_out and not link.exists():
                link.symlink_to(entry)
    python = directory / "bin" / "python"
    # the command as pip writes it
    command = "import sys\nfrom ptychodus.__main__ import main\nsys.exit(main())\n"
    python.with_name("ptychodus").write_text(f"#!{python}\n{command}")
    return Environment(python, missing)


def _entries(missing: tuple[str, ...]) -> set[str]:
    """Files and folders of site-packages that belong to the frameworks of these engines alone."""
    patterns = [DISTRIBUTIONS[engine] for engine in missing]
    theirs, others = set[str](), set[str]()
    for dist in distributions():
        name = dist.metadata["Name"].lower()
        (theirs if any(pattern.fullmatch(name) for pattern in patterns) else others).update(_top_level(dist))
    return theirs - others


def _top_level(dist: Distribution) -> set[str]:
    return {file.parts[0] for file in dist.files or ()}
