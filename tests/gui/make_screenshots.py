"""The plugin in the real Ptychodus window, from loading a scan to saving a model, with pictures.

    python tests/gui/make_screenshots.py OUT [--scan DIR] [--engine NAME] [--epochs N] [--patterns N] [--page]

needs a display, or one made for it: ``xvfb-run -a -s "-screen 0 1280x900x24" python …``. Without ``--scan`` a
small scan is simulated. Exit code 3: a step did not go as it should; the reason is on standard error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from driven_window import Window, run
from PyQt5 import QtWidgets
from PyQt5.QtTest import QTest

from ptychopinn_ptychodus.cli.demo import simulate, write_standard_directory

HANGS_S = 120.0  # no measure of speed, which is printed: other processes want their share of the machine too


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path, help="directory for the pictures")
    parser.add_argument("--scan", type=Path, help="standard directory: diffraction.h5 and product.h5")
    parser.add_argument("--engine", default="auto", help="Backend")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--patterns", type=int, default=0, help="to learn from; 0: all")
    parser.add_argument("--page", action="store_true", help="only the page after *Train on Open*")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds, of each wait")
    parser.add_argument(
        "--plain", action="store_true", help="find no probe and judge no result: it is over sooner"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_DATA_HOME"] = str(Path(scratch) / "data")  # models of Train on All
        directory = Path(scratch) / "scan"
        directory.mkdir()
        if arguments.scan is None:
            write_standard_directory(simulate(10), directory)
        else:
            for name in ("diffraction.h5", "product.h5"):
                shutil.copyfile(arguments.scan / name, directory / name)
        script = page_after_training if arguments.page else tour
        return run(lambda window: script(window, directory, arguments), shots=arguments.output.absolute())


def page_after_training(window: Window, directory: Path, arguments: argparse.Namespace) -> None:
    """What ``docs/img/window.png`` shows."""
    window.resize(1280, 880)
    window.load(directory)
    window.show("processing")
    window.pick_algorithm("ptychopinn-plugin_pinn")
    _wait_for_engines(window, arguments.timeout)
    window.type_in("Model.Backend", arguments.engine)
    window.type_in("Data.NumSubsample", arguments.patterns)
    window.type_in("Training.Epochs", arguments.epochs)
    window.scroll_area.verticalScrollBar().setValue(0)
    box, runs = window.panel.model_box, window.monitor.get_completed_runs()
    window.wait_for(box.train_button.isEnabled, arguments.timeout, "Train on Open")
    box.train_button.click()
    window.wait_for(lambda: window.monitor.get_completed_runs() > runs, arguments.timeout, "the training")
    _wait_until_idle(window, arguments.timeout)
    window.wait_for(lambda: "model." in window.model_text(), HANGS_S, "the trained model in the panel")
    window.shot("window")


def tour(window: Window, directory: Path, arguments: argparse.Namespace) -> None:
    """What a user does, in order; raises if the window does not do its part."""
    window.resize(1280, 880)
    window.load(directory)
    window.show("processing")
    width = window.scroll_area.width()
    window.pick_algorithm("ptychopinn-plugin_pinn", shot="algorithms")
    assert window.scroll_area.width() == width, "the panel has widened the window"
    assert window.scroll_area.horizontalScrollBar().maximum() == 0, "the panel does not fit"
    _wait_for_engines(window, arguments.timeout)
    window.shot("panel")
    _infer_without_a_model(window)

    if arguments.plain:
        for setting in ("Training.ProbeTrainable", "Examination.Judge", "Examination.Confidence"):
            window.settings(setting).set_value(False)
    window.type_in("Model.Backend", arguments.engine)
    window.type_in("Data.NumSubsample", arguments.patterns)
    window.type_in("Training.Epochs", arguments.epochs)
    window.type_in("Training.BatchSize", 4)
    window.type_in("Training.LearningRate", 0.001)
    window.type_in("Training.ProbeModes", 1)
    _expect_settings(
        window,
        Model_Backend=arguments.engine,
        Data_NumSubsample=arguments.patterns,
        Training_Epochs=arguments.epochs,
        Training_BatchSize=4,
        Training_LearningRate=0.001,
        Training_ProbeModes=1,
    )
    window.type_in("Model.Architecture", "cnn")
    assert window.field("Model.AmplitudeActivation").isVisible()
    window.shot("cnn", window.panel)
    window.type_in("Model.Architecture", "unrolled")
    assert not window.field("Model.AmplitudeActivation").isVisible()
    window.panel.show_advanced.set_value(True)
    window.scroll_to("Training.LoggerBackend")
    window.shot("advanced")
    window.shot("page", window.panel)
    window.panel.show_advanced.set_value(False)

    window.scroll_area.verticalScrollBar().setValue(0)
    window.train(directory)
    epoch = "Epoch 2/" if arguments.epochs > 2 else "Epoch 1/"
    window.wait_for_log("Training on ", HANGS_S)
    window.shot("starting")
    window.wait_for(lambda: epoch in window.log or not window.monitor.is_processing, arguments.timeout, epoch)
    window.shot("training")
    assert window.status.progress_bar.isVisible()
    assert window.status.progress_bar.value() > 0
    assert any(len(line.get_xdata()) for line in window.status.axes.lines), "no loss is drawn"
    assert "patterns/s" in window.log
    _wait_until_idle(window, arguments.timeout)
    window.wait_for(window.infer_button.isEnabled, HANGS_S, "Infer, enabled by the training")
    window.wait_for(lambda: "model." in window.model_text(), HANGS_S, "the trained model in the panel")
    window.shot("trained")

    saved = directory.parent / "kept"
    window.choose_file(saved)
    window.panel.model_box.save_button.click()
    kept = next(directory.parent.glob("kept.*"), None)
    assert kept is not None, "the model was not saved"

    products, runs = window.products, window.monitor.get_completed_runs()
    window.infer_button.click()
    window.wait_for(
        lambda: window.monitor.is_processing or window.monitor.get_completed_runs() > runs,
        HANGS_S,
        "inference",
    )
    _wait_until_idle(window, arguments.timeout)
    window.wait_for(lambda: window.products > products, HANGS_S, "the product of the inference")
    QTest.qWait(1500)  # for the picture: what is drawn has no end that could be asked for
    window.shot("inferred")
    window.show_object(window.products - 1, "Phase (Unwrapped)")
    window.shot("object")

    window.show("processing")
    window.load_model(kept)
    window.wait_for(lambda: kept.name in window.model_text(), HANGS_S, "the loaded model in the panel")
    window.shot("reloaded")

    window.type_in("Training.Epochs", 1000)
    window.train(directory)
    window.wait_for(lambda: "Epoch 1/1000" in window.log, arguments.timeout, "the first epoch")
    started = time.monotonic()
    window.status.stop_button.click()
    window.wait_for(lambda: not window.monitor.is_processing, HANGS_S, "the end of the training")
    stopped_s = time.monotonic() - started
    _wait_until_idle(window, HANGS_S)
    window.wait_for(
        lambda: kept.name not in window.model_text(), HANGS_S, "the model of the stopped training"
    )
    window.shot("stopped")
    print(f"Stop: {stopped_s:.1f} s")
    assert stopped_s < HANGS_S

    _train_on_all(window, directory, arguments)

    window.pick_algorithm("ptychopinn-plugin_supervised")
    window.wait_for(
        window.field("Training.RealspaceMAEWeight").isVisible, HANGS_S, "the settings of Supervised"
    )
    assert not window.infer_button.isEnabled(), "Supervised has no model"
    window.scroll_to("Training.RealspaceMAEWeight")
    window.shot("supervised")


def _train_on_all(window: Window, directory: Path, arguments: argparse.Namespace) -> None:
    """Two scans are open, of which the products that were made of the first one are not further ones."""
    other = directory.parent / "other"
    other.mkdir()
    for name in ("diffraction.h5", "product.h5"):
        shutil.copyfile(directory / name, other / name)
    window.load(other)
    box = window.panel.model_box
    window.type_in("Training.Epochs", arguments.epochs)
    window.wait_for(box.train_all_button.isEnabled, HANGS_S, "Train on All")
    window.scroll_area.ensureWidgetVisible(box.train_all_button)
    runs = window.monitor.get_completed_runs()
    box.train_all_button.click()
    window.wait_for(lambda: window.monitor.get_completed_runs() > runs, arguments.timeout, "training on all")
    _wait_until_idle(window, HANGS_S)
    window.wait_for(lambda: "and 1 more" in window.model_text(), HANGS_S, "the model of both scans")
    window.shot("trained_on_all")


def _wait_until_idle(window: Window, timeout_s: float) -> None:
    window.wait_until_idle(timeout_s)
    assert window.error is None, window.error


def _wait_for_engines(window: Window, timeout_s: float) -> None:
    labels = window.panel.findChildren(QtWidgets.QLabel)
    window.wait_for(lambda: not any("looking" in label.text() for label in labels), timeout_s, "accelerators")


def _expect_settings(window: Window, **values: Any) -> None:
    for key, value in values.items():
        found = window.settings(key.replace("_", ".")).get_value()
        assert found == value, f"{key} is {found!r}, not {value!r}"


def _infer_without_a_model(window: Window) -> None:
    products = window.products
    said: list[str] = []

    def close(dialog: Any) -> None:
        said.append(dialog.informativeText())
        window.shot("no_model", dialog)
        dialog.close()

    assert not window.infer_button.isEnabled(), "Infer is offered without a model"
    window.infer_button.setEnabled(True)  # a click that came before it was disabled
    window.on_dialog(close)
    window.infer_button.click()
    assert said, "Infer without a model was not refused"
    assert "has no model" in said[0], said
    assert window.products == products, "there is a product without a model"
    window.wait_for_log("has no model", HANGS_S)
    window.infer_button.setEnabled(False)


if __name__ == "__main__":
    raise SystemExit(main())
