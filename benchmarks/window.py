"""Time from the start of the process to the first painted window, with and without the plugin.

    python benchmarks/window.py [--runs N]

Runs alternate, so that a machine that is busy for a while is busy for both. Needs a display, or one made for
it (``xvfb-run``); ``QT_QPA_PLATFORM=offscreen`` will do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

from _tables import print_header, print_table, use_one_thread

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
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="pairs of processes")
    runs = parser.parse_args().runs
    use_one_thread()
    pairs = []
    with tempfile.TemporaryDirectory() as home:
        measure("with", home)  # fills the caches
        for _ in range(runs):
            pairs.append((measure("without", home), measure("with", home)))
    print_header(("ptychopinn-ptychodus", "ptychodus", "PyQt5"))
    rows = []
    for i, what in enumerate(("wall s", "CPU s")):
        without, with_plugin = (median(pair[side][i] for pair in pairs) for side in (0, 1))
        more = median(pair[1][i] / pair[0][i] - 1 for pair in pairs)
        rows.append((what, f"{without:.3f}", f"{with_plugin:.3f}", f"{100 * more:+.1f} %"))
    print_table(
        "From the start of the process to the first painted window",
        ("", "without the plugin", "with the plugin", "more"),
        rows,
        f"Medians of {runs} pairs of fresh processes in turn; the last column: of each pair's own ratio.",
    )


if __name__ == "__main__":
    main()
