"""The stock window with the plugin in it, driven without a screen."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HANGS_S = 120.0
"""After as long, something waits that should not: no measure of speed, for the machine may be busy."""

pytestmark = [
    pytest.mark.usefixtures("fake_site"),
    pytest.mark.skipif(importlib.util.find_spec("PyQt5") is None, reason="needs PyQt5 (extra gui)"),
    pytest.mark.skipif(
        importlib.util.find_spec("ptychodus.plugins.ptychopinn_ptychodus_attach") is None,
        reason="needs the installed package: pip install -e . places the file that Ptychodus finds",
    ),
]

SCRIPT = """
import gc, json, sys, time, traceback
from pathlib import Path
from PyQt5 import QtWidgets
from PyQt5.QtCore import QTimer
from PyQt5.QtTest import QTest

site, source, target = sys.argv[1:4]
sys.path.append(site)
sys.argv = ["ptychodus"]
seen = {}

def drive():
    controller = next(o for o in gc.get_objects() if type(o).__name__ == "ControllerCore")
    model = controller.model
    processing = controller._processing_controller
    api = model.processing_core.processing_api
    parameter = model.processing_core.algorithm_parameter
    monitor = api.task_monitor
    epochs = model.settings_registry["PtychoPINNPluginTraining"].parameters()["Epochs"]
    infer = processing._actions_view.reconstruct_button
    data = model.workflow_api.load_assembled_diffraction_data(Path(source) / "diffraction.h5")
    model.workflow_api.load_product(Path(source) / "product.h5", diffraction=data)
    parameter.set_value("ptychopinn-plugin_pinn")
    QTest.qWait(200)
    page = processing._stacked_widget.currentWidget()
    seen["lazy"] = page.settings_page is None
    controller.view.processing_action.trigger()
    QTest.qWait(200)
    seen["page"] = [box.title() for box in page.findChildren(QtWidgets.QGroupBox)]
    seen["fits"] = processing._scroll_area.horizontalScrollBar().maximum() == 0
    seen["frameworks"] = [name for name in ("torch", "tensorflow", "keras") if name in sys.modules]

    def close_dialog():
        dialog = QtWidgets.QApplication.activeModalWidget()
        if dialog is None:  # the machine may be busy
            QTimer.singleShot(100, close_dialog)
            return
        seen["dialog"] = [label.text() for label in dialog.findChildren(QtWidgets.QLabel)]
        dialog.close()

    infer.setEnabled(True)
    QTimer.singleShot(500, close_dialog)
    infer.click()
    seen["products"] = len(model.product_core.product_repository)

    epochs.set_value(5)
    model.settings_registry["PtychoPINNPluginTraining"].parameters()["ProbeTrainable"].set_value(False)
    api.train(Path(source), Path(target), product_index=0)
    QTest.qWait(300)
    titles = set()
    while monitor.is_processing:
        QTest.qWait(50)
        titles.add(processing._status_view.axes.get_title())
    seen["titles"] = sorted(titles)
    QTest.qWait(1500)
    seen["infer"] = infer.isEnabled()
    seen["log"] = processing._status_view.text_edit.toPlainText()

    epochs.set_value(1)
    box = page.settings_page.model_box
    data = model.workflow_api.load_assembled_diffraction_data(Path(source) / "diffraction.h5")
    for button in (box.train_button, box.train_all_button):
        QTest.qWait(200)
        buttons = (box.train_button, box.train_all_button)
        seen.setdefault("can train", []).append([each.isEnabled() for each in buttons])
        button.click()
        while not monitor.is_processing:
            QTest.qWait(10)
        while monitor.is_processing:
            QTest.qWait(50)
        QTest.qWait(1500)
        reconstructor = parameter.get_current_reconstructor()
        seen.setdefault("trained on", []).append(reconstructor.require_model().parent.parent.name)
        model.workflow_api.load_product(Path(source) / "product.h5", diffraction=data)
    seen["ready"] = page.settings_page.warm_row.text.text()
    page.settings_page.warm_row.release_button.click()
    while reconstructor.warm.worker.waits:
        QTest.qWait(50)

    parameter.set_value("ptychopinn-plugin_supervised")
    QTest.qWait(200)
    seen["infer without a model"] = infer.isEnabled()
    api.load_model_from_file(Path(target) / "model.ckpt")
    QTest.qWait(1500)
    seen["infer with a loaded model"] = infer.isEnabled()
    parameter.set_value("ptychopinn-plugin_pinn")

    epochs.set_value(100000)
    api.train(Path(source), Path(target), product_index=0)
    while monitor.get_progress_goal() == 0 or len(seen.setdefault("waits", [])) < 40:
        seen["waits"].append(0)
        QTest.qWait(50)
    seen.pop("waits")

def start():
    try:
        drive()
    except BaseException:
        traceback.print_exc()
    seen["closed"] = time.monotonic()
    QtWidgets.QApplication.exit(0)

execute = QtWidgets.QApplication.exec

def exec_with_script(*args):
    QTimer.singleShot(500, start)
    return execute()

QtWidgets.QApplication.exec = staticmethod(exec_with_script)
from ptychodus.__main__ import main
seen["code"] = int(main())
seen["seconds_to_close"] = time.monotonic() - seen.pop("closed")
print("SEEN " + json.dumps(seen))
"""


def test_the_window(
    standard_directory: Path, tmp_path: Path, fake_site: Path, wish: Callable[..., None]
) -> None:
    wish(epoch_seconds=0.2)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(fake_site), str(standard_directory), str(tmp_path / "out")],
        env={
            **os.environ,
            "QT_QPA_PLATFORM": "offscreen",
            "HOME": str(tmp_path),
            "XDG_DATA_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=5 * HANGS_S,
        check=False,
    )
    if "Could not load the Qt platform plugin" in done.stderr or "ImportError: lib" in done.stderr:
        pytest.skip("Qt cannot be started here: a system library is missing")
    lines = [line for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    assert lines, done.stdout + done.stderr
    seen = json.loads(lines[0].removeprefix("SEEN "))
    assert seen["lazy"]
    boxes = ["Loaded Model", "Live", "Examination of the Scan", "Confidence", "Preview", "Effort", "Engine"]
    assert seen["page"][: len(boxes)] == boxes
    assert "Refinement" in seen["page"]
    assert seen["fits"]
    assert seen["frameworks"] == []
    assert any("PINN has no model" in text for text in seen["dialog"])
    assert seen["products"] == 1
    assert "PINN training" in seen["titles"]
    assert seen["infer"] is True
    assert seen["infer without a model"] is False
    assert seen["infer with a loaded model"] is True
    assert "Epoch 5/5" in seen["log"]
    # the window has no second product with data of its own before the second of them
    assert seen["can train"] == [[True, False], [True, True]]
    assert seen["trained on"] == ["scan", "scan and 1 more"]
    assert seen["ready"] == "Ready: Fake PyTorch"
    assert seen["code"] == 0
    assert seen["seconds_to_close"] < HANGS_S
    assert Path(tmp_path / "out" / "model.ckpt").is_file()
