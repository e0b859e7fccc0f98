"""Seconds by the clock from `ptychodus` to the first object in its window, and to the next ones.

    python benchmarks/first_object.py DIR [--shots OUT] [--effort quick] [--algorithm pinn]

starts the stock window, opens the scan in the standard directory DIR as its file dialogs do, chooses
``Refinement``, presses the button, and waits for the object; then presses it once more, while the process of
the first run waits. With ``PINN``, *Train on Open* comes before, and *Release*, so that the first Infer has a
new process. Needs a display, or one made for it (``xvfb-run``).

CPU seconds are those of the window and of the processes that it has started, over the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from _tables import print_header
from PyQt5.QtTest import QTest

sys.path.append(str(Path(__file__).parent.parent / "tests" / "gui"))
from driven_window import Window, run

WAIT_S = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scan", type=Path, help="standard directory: diffraction.h5 and product.h5")
    parser.add_argument("--shots", type=Path, help="directory for pictures of the window")
    parser.add_argument("--effort", default="quick", choices=("quick", "normal", "thorough"))
    parser.add_argument("--algorithm", default="refinement", choices=("refinement", "pinn"))
    arguments = parser.parse_args()
    print_header(["ptychodus", "numpy"], "Whatever threads are allowed")
    print("\n| what | s | CPU s |\n| --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_DATA_HOME"] = scratch  # models of Train on Open
        shots = (arguments.shots or Path(scratch) / "shots").absolute()
        return run(lambda window: use(window, arguments), shots=shots)


class Watch:
    """Tells how long something took."""

    def __init__(self, since: float | None = None) -> None:
        self._began = time.time() if since is None else since
        self._cpu_began = cpu_s() if since is None else 0.0

    def tell(self, what: str) -> None:
        print(f"| {what} | {time.time() - self._began:.1f} | {cpu_s() - self._cpu_began:.1f} |", flush=True)


def cpu_s() -> float:
    """Of this process and those that it has started; one that has ended meanwhile counts no more."""
    own = psutil.Process()
    total = sum(own.cpu_times()[:2])
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            total += sum(child.cpu_times()[:2])
    return float(total)


def use(window: Window, arguments: argparse.Namespace) -> None:
    """What a person does who wants to see an object."""
    start = Watch(psutil.Process().create_time())
    start.tell("`ptychodus` to its window")
    window.resize(1280, 880)
    window.load(arguments.scan)
    start.tell("... to the open scan")
    window.show("processing")
    window.settings("Training.Effort").set_value(arguments.effort)
    window.pick_algorithm(f"ptychopinn-plugin_{arguments.algorithm}")
    if arguments.algorithm == "pinn":
        train(window)
    infer(window, "from the click to the object, in a new process")
    start.tell(f"`ptychodus` to the first object, by {arguments.algorithm} ({arguments.effort})")
    shot(window)
    infer(window, "from the click to the next one, in the process that waits")


def train(window: Window) -> None:
    """Train on Open, after which no process waits."""
    runs, box = window.monitor.get_completed_runs(), window.panel.model_box
    window.wait_for(box.train_button.isEnabled, WAIT_S, "Train on Open")
    training = Watch()
    box.train_button.click()
    window.wait_for(lambda: window.monitor.get_completed_runs() > runs, WAIT_S, "the training")
    window.wait_until_idle(WAIT_S)
    training.tell("*Train on Open*")
    window.wait_for(window.infer_button.isEnabled, WAIT_S, "Infer")
    window.panel.warm_row.release_button.click()
    window.wait_for(lambda: not window.panel.warm_row.text.text(), WAIT_S, "no process that waits")


def infer(window: Window, what: str) -> None:
    """Press the button for the product that was opened, and tell when the product with an object is there."""
    window.products_box.setCurrentIndex(0)
    products, runs, watch = window.products, window.monitor.get_completed_runs(), Watch()
    window.infer_button.click()
    window.wait_for(lambda: window.monitor.get_completed_runs() > runs, WAIT_S, "the reconstruction")
    window.wait_for(lambda: window.products > products, WAIT_S, "the product")
    watch.tell(what)
    window.wait_until_idle(WAIT_S)
    assert window.error is None, window.error


def shot(window: Window) -> None:
    """Pictures of the page, and of the object of the last product."""
    window.shot("page")
    for part in ("Amplitude", "Phase (Unwrapped)"):
        window.show_object(window.products - 1, part)
        QTest.qWait(1500)
        window.shot(part.partition(" ")[0].lower())
    window.show("processing")


if __name__ == "__main__":
    raise SystemExit(main())
