"""Time from the start of the process to the first painted window, with and without the plugin.

    python tests/gui/time_to_window.py [RUNS]

Runs alternate, so that a machine that is busy for a while is busy for both. Needs a display, or one made for
it (``xvfb-run``); ``QT_QPA_PLATFORM=offscreen`` will do.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

CHILD = """
import os, resource, sys, time
started, with_plugin = float(sys.argv[1]), sys.argv[2] == "with"

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "ptychodus.plugins.ptychopinn_ptychodus_attach":
            raise ModuleNotFoundError(name)

if not with_plugin:
    sys.meta_path.insert(0, Hidden())
from PyQt5 import QtCore, QtWidgets

class Watch(QtCore.QObject):
    def eventFilter(self, watched, event):
        if event.type() == QtCore.QEvent.Paint and isinstance(watched, QtWidgets.QMainWindow):
            usage = resource.getrusage(resource.RUSAGE_SELF)
            names = [name for name in sys.modules if name.startswith("ptychopinn_ptychodus")]
            assert bool(names) is with_plugin, names
            print(time.time() - started, usage.ru_utime + usage.ru_stime, flush=True)
            os._exit(0)
        return False

execute = QtWidgets.QApplication.exec

def exec_and_watch(*args):
    watch = Watch()
    QtWidgets.QApplication.instance().installEventFilter(watch)
    return execute()

QtWidgets.QApplication.exec = staticmethod(exec_and_watch)
sys.argv = ["ptychodus"]
from ptychodus.__main__ import main
main()
"""


def measure(which: str, home: str) -> tuple[float, float]:
    """Seconds, and seconds of the processor."""
    import time

    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(time.time()), which],
        env={**os.environ, "HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not done.stdout:
        raise SystemExit(done.stderr)
    wall, processor = map(float, done.stdout.split()[-2:])
    return wall, processor


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    times: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as home:
        measure("with", home)  # fills the caches
        for _ in range(runs):
            for which, measured in times.items():
                measured.append(measure(which, home))
    medians = {}
    for which, measured in times.items():
        medians[which] = [statistics.median(values) for values in zip(*measured, strict=True)]
        least = [min(values) for values in zip(*measured, strict=True)]
        print(
            f"{which:8} median {medians[which][0]:.3f} s ({medians[which][1]:.3f} s of the processor), "
            f"least {least[0]:.3f} s ({least[1]:.3f} s)"
        )
    for i, what in enumerate(("time", "processor")):
        more = medians["with"][i] / medians["without"][i] - 1
        print(f"{what}: {100 * more:+.1f} % (median of {runs})")


if __name__ == "__main__":
    main()
