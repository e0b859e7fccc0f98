"""Where a scenario plays: a scan, fakes on the path, an environment without frameworks, a full disk."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from driven_window import Window, run

from ptychopinn_ptychodus.cli.demo import simulate, write_standard_directory

TESTS = Path(__file__).parent.parent
ON_SMALL_DISK = "PTYCHOPINN_TESTS_SMALL_DISK"
PINN = "ptychopinn-plugin_pinn"


class Stage:
    """What the scenarios share.

    Parameters
    ----------
    scratch
        A directory that is removed afterwards.
    shots
        Where pictures go.
    """

    def __init__(self, scratch: Path, shots: Path) -> None:
        self.scratch = scratch
        self.shots = shots

    def run(self, script: Callable[[Window], None]) -> int:
        """Start the application and have ``script`` do what a person would; the exit code."""
        return run(script, shots=self.shots)

    def scan(self, positions: int = 5) -> Path:
        """A standard directory with a simulated scan."""
        directory = self.scratch / "scan"
        directory.mkdir()
        write_standard_directory(simulate(positions), directory)
        return directory

    # ---- fakes

    def add_distribution(self, name: str, entry_points: str, **modules: str) -> None:
        """Install a package: modules by name, and what they register."""
        site = self.scratch / "site"
        site.mkdir(exist_ok=True)
        for module, code in modules.items():
            (site / f"{module}.py").write_text(code)
        directory = site / f"{name}-1.0.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (directory / "entry_points.txt").write_text(entry_points)
        if str(site) not in sys.path:
            sys.path.append(str(site))  # workers and their engines inherit it

    def use_fake_engine(self, **wishes: object) -> None:
        """Engines that need no framework, and do wrong what is asked of them; may be called again."""
        os.environ["FAKE_ENGINE"] = json.dumps(wishes)
        if not (self.scratch / "site" / "fake_engine.py").exists():
            self.add_distribution(
                "fake_engine",
                "[ptychopinn_ptychodus.backends]\n"
                "pytorch = fake_engine:FakeEngine\ntensorflow = fake_engine:FakeTensorFlow\n",
                fake_engine=(TESTS / "support" / "fake_engine.py").read_text(),
            )

    # ---- surroundings

    def again_without_frameworks(self) -> int | None:
        """The exit code of this very script in an environment that has no framework; None if this is one.

        A real environment and no import hook: it costs half a second, and nobody who looks for a framework,
        by whatever means, finds one. See ``tests/absence``.
        """
        if not any(map(importlib.util.find_spec, ("torch", "tensorflow", "keras"))):
            return None
        sys.path.append(str(TESTS / "support"))
        from absence_support import make_environment

        environment = make_environment(self.scratch / "env", ("pytorch", "tensorflow"))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run([environment.python, *sys.argv], env=inherited, check=False).returncode

    def again_with_small_disk(self) -> int | None:
        """The exit code of this very script where :meth:`small_disk` is a file system of 4 MiB.

        None if it already is, or where nobody may mount one.
        """
        if ON_SMALL_DISK in os.environ or shutil.which("unshare") is None:
            return None
        directory = self.scratch / "disk"
        directory.mkdir()
        mount = 'mount -t tmpfs -o size=4m none "$1"'
        for options in (["--mount"], ["--mount", "--map-root-user"]):
            unshare = ["unshare", *options, "sh", "-c"]
            if (
                subprocess.run(
                    [*unshare, mount, "sh", directory], capture_output=True, check=False
                ).returncode
                == 0
            ):
                return subprocess.run(
                    [*unshare, f'{mount} && shift && exec "$@"', "sh", directory, sys.executable, *sys.argv],
                    env={**os.environ, ON_SMALL_DISK: str(directory)},
                    check=False,
                ).returncode
        return None

    def small_disk(self) -> Path:
        """A directory on a file system that :meth:`full` can fill."""
        mounted = os.environ.get(ON_SMALL_DISK)
        print(
            "The small disk is", "a limit on files (RLIMIT_FSIZE)" if mounted is None else "a tmpfs of 4 MiB"
        )
        directory = self.scratch / "no_disk" if mounted is None else Path(mounted)
        directory.mkdir(exist_ok=True)
        return directory

    @contextmanager
    def full(self, disk: Path, *, leaving: int) -> Iterator[int]:
        """No more than ``leaving`` bytes fit on the disk; the number of the error that this leads to.

        Where no file system could be mounted, no file of this process and its workers grows beyond that,
        which is an error at the same place with another number.
        """
        if ON_SMALL_DISK not in os.environ:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (leaving, hard))
            try:
                yield errno.EFBIG
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return
        status = os.statvfs(disk)
        filler = disk / "filler"
        filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - leaving)))
        try:
            yield errno.ENOSPC
        finally:
            filler.unlink()


def seconds_until(condition: Callable[[], bool], timeout_s: float) -> float:
    """How long it took, without Qt's event loop."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_s:
            raise TimeoutError
        time.sleep(0.02)
    return time.monotonic() - started
