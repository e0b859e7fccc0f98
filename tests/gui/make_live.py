"""A scan that is reconstructed while it is recorded, in the real Ptychodus window, with pictures.

    python tests/gui/make_live.py OUT [--scan DIR] [--rate FRAMES_PER_SECOND]

needs a display, as ``make_screenshots.py`` does. Exit code 3: a step did not go as it should; the reason is
on standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np
from driven_window import Window
from stage import Stage

from ptychopinn_ptychodus.live.status import LiveStatus
from ptychopinn_ptychodus.live.status import Stage as Live

WAIT_S = 120.0
QUICK = {"WithoutModel.Epochs": 2, "Examination.Judge": False}


class Detector:
    """Leaves frames of a scan, one file each, as fast as it is told; stops half-way until it is let on."""

    def __init__(self, scan: Path, target: Path, rate: float) -> None:
        target.mkdir()
        shutil.copy(scan / "product.h5", target)
        with h5py.File(scan / "diffraction.h5") as file:
            self._patterns = np.asarray(file["patterns"][()])
        self._target, self._rate = target, rate
        self.count = len(self._patterns)
        self.goes_on = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def _record(self) -> None:
        for number, pattern in enumerate(self._patterns):
            if number == self.count // 2:
                self.goes_on.wait()
            part = self._target / f".{number}.npy"
            np.save(part, pattern)
            part.rename(self._target / f"frame_{number:05d}.npy")
            time.sleep(1 / self._rate)


def follow(stage: Stage, source: Path, rate: float) -> int:
    """A scan is chosen by ``Live…``, grows, and is left; then its directory is chosen."""
    os.environ["XDG_DATA_HOME"] = str(stage.scratch / "data")

    def script(window: Window) -> None:
        window.resize(1280, 880)
        window.show("processing")
        window.pick_algorithm("ptychopinn-plugin_refinement")
        for setting, value in QUICK.items():
            window.settings(setting).set_value(value)
        box, live = window.panel.live_box, window.panel.live_box._live
        assert not box.stop_button.isEnabled()

        detector = Detector(source, stage.scratch / "recorded", rate)
        window.choose_file(stage.scratch / "recorded")
        box.live_button.click()
        window.wait_for(lambda: box.picture.isVisible(), WAIT_S, "a picture")
        half = detector.count // 2
        window.wait_for(lambda: live.status.in_object == half, WAIT_S, f"{half} frames in the object")
        window.scroll_area.ensureWidgetVisible(box.stop_button)
        window.shot("live_half")
        first = box._shown
        detector.goes_on.set()
        window.wait_for(lambda: live.status.in_object > half, WAIT_S, "more frames in the object")
        window.wait_for(lambda: box._shown != first, WAIT_S, "another picture")
        assert "frames/s" in box.values["Speed"].text()
        assert "frame" in box.values["Lag"].text()
        window.wait_for(lambda: live.status.in_object == detector.count, WAIT_S, "all frames")
        window.shot("live_whole")
        _stop(window)
        assert window.products == 1, "the product was not kept"
        assert "Stopped" in box.status.text(), box.status.text()
        window.shot("live_stopped")
        _require_frames(window, detector.count)
        _again(window)
        _together(window)

    return stage.run(script)


def _stop(window: Window) -> None:
    box = window.panel.live_box
    started = time.monotonic()
    box.stop_button.click()
    window.wait_for(box.live_button.isEnabled, WAIT_S, "the end of the live run")
    print(f"Stop: {time.monotonic() - started:.1f} s")
    window.wait_for_log("is among the products now", WAIT_S)


def _again(window: Window) -> None:
    """Of a run that is over, whoever started it, the product is one click away."""
    box = window.panel.live_box
    window.choose_file(box._live.directory)
    box.live_button.click()
    window.wait_for(lambda: window.products == 2, WAIT_S, "the product of a run that is over")
    window.wait_for(box.live_button.isEnabled, WAIT_S, "the end of the run")
    window.shot("live_over")


def _require_frames(window: Window, count: int) -> None:
    """The product can be refined further: it has its frames."""
    item = window.model.product_core.product_repository[window.products - 1]
    dataset = item.get_dataset()
    assert dataset is not None, "the product has no frames"
    assert dataset.get_assembled_data().get_num_patterns() == count
    indexes = dataset.get_assembled_data().get_indexes().tolist()
    assert item.get_product().probe_positions.get_indexes().tolist() == indexes


def _together(window: Window) -> None:
    """How far the reconstruction of all frames is, as a run says so that was started elsewhere."""
    box = window.panel.live_box
    directory = box._live.directory
    over = LiveStatus.load(directory)
    now = dataclasses.replace(over, stage=Live.COMPLETING, progress=0.43, epoch=4, epochs=10)
    dataclasses.replace(now, seconds_left=72.0, process=os.getpid()).save(directory)
    window.choose_file(directory)
    box.live_button.click()
    said = "43 %, epoch 4 of 10, 1:12 left"
    window.wait_for(lambda: box.values["Together"].text() == said, WAIT_S, said)
    window.scroll_area.ensureWidgetVisible(box.stop_button)
    window.shot("live_together")
    over.save(directory)
    window.wait_for(lambda: window.products == 3, WAIT_S, "the product once more")
    window.wait_for(box.live_button.isEnabled, WAIT_S, "the end of the run")
    repository = window.model.diffraction_core.repository
    assert len(repository) == 1, "the frames were opened more than once"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path, help="directory for the pictures")
    parser.add_argument("--scan", type=Path, help="standard directory; default: a small one is simulated")
    parser.add_argument("--rate", type=float, default=50.0, help="frames per second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        stage = Stage(Path(scratch), arguments.output.absolute())
        return follow(stage, arguments.scan or stage.scan(8), arguments.rate)


if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb")
    raise SystemExit(main())
