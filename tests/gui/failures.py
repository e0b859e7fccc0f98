"""Scenarios in which an engine, a disk, a file or a user gets in the way of a run."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import psutil
from driven_window import Window
from PyQt5 import QtWidgets
from PyQt5.QtTest import QTest
from stage import PINN, Stage, seconds_until

from ptychopinn_ptychodus.backends import TENSORFLOW_HINT, TORCH_HINT

# No measure of speed, which is printed: other processes want their share of the machine too.
HANGS_S = 120.0


def _said_since(window: Window, before: int, hint: str) -> bool:
    return hint in window.log[before:]


def _open(window: Window, directory: Path, **settings: Any) -> None:
    """Load a scan, pick the reconstructor, set values; results are not judged, which takes its time."""
    window.resize(1280, 880)
    window.pick_algorithm(PINN)
    window.load(directory)
    window.show("processing")
    for name, value in {"Examination_Judge": False, "Examination_Confidence": False, **settings}.items():
        window.settings(name.replace("_", ".")).set_value(value)
    QTest.qWait(200)


def _train(window: Window, directory: Path, timeout_s: float = 120.0) -> None:
    window.train(directory)
    window.wait_until_idle(timeout_s)


def _has_ended(pid: int) -> bool:
    try:  # a zombie has: nobody has asked for its exit code yet
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def no_framework(stage: Stage) -> int:
    """No engine has its framework: everything is there, and says what to install."""
    code = stage.again_without_frameworks()
    if code is not None:
        return code
    directory = stage.scan()

    def script(window: Window) -> None:
        listed = [window.algorithms.itemText(i) for i in range(window.algorithms.count())]
        assert {PINN, "ptychopinn-plugin_supervised"} <= set(listed), listed
        _open(window, directory)
        said = "\n".join(label.text() for label in window.panel.findChildren(QtWidgets.QLabel))
        assert said.count("not installed") == 2, said
        for hint in (TORCH_HINT, TENSORFLOW_HINT):
            assert hint in said, said
        window.shot("no_framework")
        for backend, hint in (("pytorch", TORCH_HINT), ("tensorflow", TENSORFLOW_HINT), ("auto", TORCH_HINT)):
            window.settings("Model.Backend").set_value(backend)
            before = len(window.log)
            _train(window, directory)
            assert window.error is not None
            said_since = functools.partial(_said_since, window, before, hint)
            window.wait_for(said_since, HANGS_S, f"{hint}:\n{window.log}")
        window.shot("no_framework_train")
        assert not list(directory.glob("model*"))
        assert window.view.isVisible()
        assert window.train_button.isEnabled()

    return stage.run(script)


def killed(stage: Stage) -> int:
    """A worker is killed in the middle of a training: the earlier model stays, the next training works."""
    stage.use_fake_engine()
    directory = stage.scan()

    def script(window: Window) -> None:
        _open(window, directory, Training_Epochs=2, Data_ValidationFraction=0.1)
        _train(window, directory)
        window.wait_for(lambda: "2 epochs" in window.model_text(), HANGS_S, "the first model")
        earlier = (directory / "model.ckpt").read_bytes()

        stage.use_fake_engine(epoch_seconds=0.2)
        window.settings("Training.Epochs").set_value(1000)
        window.train(directory)
        window.wait_for_log("Epoch 3/1000", HANGS_S)
        os.kill(window.child(), signal.SIGKILL)
        took = window.wait_for_log("SIGKILL", HANGS_S)
        window.wait_until_idle(HANGS_S)
        print(f"Killed: in the log pane after {took:.1f} s")
        window.shot("killed")
        assert "memory" in window.log, "no remedy"
        end_of_log = window.status.text_edit.verticalScrollBar()
        assert end_of_log.value() == end_of_log.maximum(), "the end of the log is out of sight"
        assert window.status.axes.get_title() == "PINN training"
        assert len(window.status.axes.lines[0].get_xdata()) >= 3, "losses are missing from the plot"
        assert "2 epochs" in window.model_text(), window.model_text()
        assert (directory / "model.ckpt").read_bytes() == earlier
        assert window.infer_button.isEnabled()

        products = window.products
        window.infer_button.click()
        window.wait_until_idle(HANGS_S)
        assert window.error is None, window.error
        assert window.products == products + 1

        window.settings("Training.Epochs").set_value(3)
        _train(window, directory)
        assert window.error is None, window.error
        window.wait_for(lambda: "3 epochs" in window.model_text(), HANGS_S, "the next model")

    return stage.run(script)


def full_disk(stage: Stage) -> int:
    """The disk fills up in the middle of a training, and is full before one."""
    code = stage.again_with_small_disk()
    if code is not None:
        return code
    directory, disk = stage.scan(), stage.small_disk()
    output = disk / "scan"
    output.mkdir()
    for file in directory.iterdir():
        (output / file.name).symlink_to(file)

    def script(window: Window) -> None:
        _open(window, output, Model_Backend="pytorch", Model_NumFiltersScale=1, Training_Epochs=1)
        window.settings("Training.ProbeModes").set_value(1)
        _train(window, output)
        assert window.error is None, window.error
        window.wait_for(lambda: "1 epoch" in window.model_text(), HANGS_S, "the first model")
        earlier = (output / "model.ckpt").read_bytes()

        for what, leaving in (("filling", 64 * 1024), ("full", 0)):
            before = len(window.log)
            with stage.full(disk, leaving=leaving) as number:
                _train(window, output)
            print(f"The disk is {what}: {window.error}")
            assert isinstance(window.error, OSError), window.error
            assert window.error.errno == number, window.error
            for expected in (os.strerror(number), str(output), "choose another"):
                window.wait_for(
                    lambda b=before, e=expected: e in window.log[b:], HANGS_S, f"{expected}: {window.log}"
                )
            assert (output / "model.ckpt").read_bytes() == earlier
            window.shot(f"disk_{what}")
            assert not list(output.glob(".*.tmp")), "half a file is left"
            assert "1 epoch" in window.model_text(), window.model_text()
            assert window.infer_button.isEnabled()

    return stage.run(script)


def wrong_model(stage: Stage) -> int:
    """Files that are no models are refused by name, and the model that is loaded stays."""
    directory = stage.scan()
    harm = stage.scratch / "harm"

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (harm.write_text, ("a pickle was run",))

    def script(window: Window) -> None:
        _open(window, directory, Model_Backend="pytorch", Model_NumFiltersScale=1, Training_Epochs=1)
        window.settings("Training.ProbeModes").set_value(1)
        _train(window, directory)
        assert window.error is None, window.error
        model = directory / "model.ckpt"
        window.wait_for(lambda: model.name in window.model_text(), HANGS_S, "the model")
        loaded = window.model_text()
        files = {
            "text.ckpt": b"no model at all\n",
            "empty.ckpt": b"",
            "truncated.ckpt": model.read_bytes()[: model.stat().st_size // 2],
            "pickle.ckpt": pickle.dumps(Harm()),
            "product.wts.h5.zip": (directory / "product.h5").read_bytes(),
        }
        for name, content in files.items():
            path = directory / name
            path.write_bytes(content)
            said: list[str] = []

            def close(dialog: Any, name: str = name, said: list[str] = said) -> None:
                said.append(dialog.informativeText())
                window.shot(f"wrong_{name.split('.')[0]}", dialog)
                dialog.close()

            QtWidgets.QApplication.processEvents()
            window.choose_file(path, then=close)
            window.panel.model_box.load_button.click()
            assert said, f"{name} was not refused"
            assert name in said[0], said
            assert "model" in said[0], said
            window.wait_for_log(name, HANGS_S)
            assert window.model_text() == loaded
            assert window.infer_button.isEnabled()
        window.shot("wrong_model")
        assert not harm.exists()
        window.infer_button.click()
        window.wait_until_idle(HANGS_S)
        assert window.error is None, window.error

    return stage.run(script)


def no_model(stage: Stage) -> int:
    """Infer is offered as long as there is a model, whatever happens to the products."""
    stage.use_fake_engine()
    directory = stage.scan()

    def script(window: Window) -> None:
        algorithm = window.model.processing_core.algorithm_parameter
        assert algorithm.get_value() == window.algorithms.currentText(), "another one is shown than would run"
        _open(window, directory, Training_Epochs=1)
        assert window.train_button.isEnabled()
        assert not window.infer_button.isEnabled(), "enabled by a scan that was loaded"
        window.load(directory)
        QTest.qWait(200)
        assert not window.infer_button.isEnabled(), "enabled by a second scan"
        for index in (1, 0):
            window.products_box.setCurrentIndex(index)
            assert not window.infer_button.isEnabled(), "enabled by a choice of product"
        window.shot("no_model_loaded")
        _train(window, directory)
        window.wait_for(window.infer_button.isEnabled, HANGS_S, "Infer, enabled by the training")
        window.products_box.setCurrentIndex(1)
        assert window.infer_button.isEnabled()
        window.pick_algorithm("ptychopinn-plugin_supervised")
        assert not window.infer_button.isEnabled()
        window.products_box.setCurrentIndex(0)
        assert not window.infer_button.isEnabled(), "the model is PINN's"
        window.pick_algorithm(PINN)
        (directory / "model.ckpt").unlink()
        said: list[str] = []

        def close(dialog: Any) -> None:
            said.append(dialog.informativeText())
            dialog.close()

        products = window.products
        window.on_dialog(close)
        window.infer_button.click()
        assert said, "a model that has gone is not missed"
        assert "no longer there" in said[0], said
        assert window.products == products
        window.wait_for_log("no longer there", HANGS_S)

    return stage.run(script)


def closing(stage: Stage) -> int:
    """The window is closed during a training: application and worker end, and the best model stays."""
    backend = os.environ.get("CLOSING_BACKEND")
    if backend is None:
        stage.use_fake_engine(epoch_seconds=0.2)
    directory = stage.scan()
    seen: dict[str, Any] = {}

    def script(window: Window) -> None:
        _open(window, directory, Training_Epochs=1000, Model_Backend=backend or "auto")
        window.train(directory)
        window.wait_for_log("Epoch 2/1000", HANGS_S)
        seen["child"] = window.child()
        seen["closed"] = time.monotonic()
        window.view.close()

    code = stage.run(script)
    if code != 0:
        return code
    application_s = time.monotonic() - seen["closed"]
    child_s = seconds_until(lambda: _has_ended(seen["child"]), HANGS_S)
    print(f"Closing: the application has ended after {application_s:.1f} s, the worker {child_s:.1f} s later")
    assert application_s < HANGS_S
    assert list(directory.glob("model.*")), "there is no model"
    return 0
