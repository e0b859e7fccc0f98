"""Drive the real Ptychodus window from a script: the stock ``main()``, a display, real clicks.

It reaches into private attributes of Ptychodus 1.7, which is what such a test has to do; they are named here
and nowhere else. Screenshots are taken by Qt itself, so that they work on any display, offscreen too.
"""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from PyQt5 import QtWidgets
from PyQt5.QtCore import QPoint, Qt, QTimer
from PyQt5.QtGui import QPainter
from PyQt5.QtTest import QTest

from ptychopinn_ptychodus.plugin.panel import Page
from ptychopinn_ptychodus.worker.process import WORKER


class Window:
    """The window and what a person does in it."""

    def __init__(self, shots: Path) -> None:
        self._shots = shots
        controller = next(o for o in gc.get_objects() if type(o).__name__ == "ControllerCore")
        self.model = controller.model
        self.view = controller.view
        self.processing = controller._processing_controller
        self.algorithms = self.processing._algorithm_view_controller.get_widget()
        self.products_box = self.processing._product_view_controller.get_widget()
        self.scroll_area = self.processing._scroll_area
        self.infer_button = self.processing._actions_view.reconstruct_button
        self.train_button = self.processing._actions_view.train_button
        self.status = self.view.processing_status_view
        self.monitor = self.model.processing_core.processing_api.task_monitor

    # ---- the application

    def resize(self, width: int, height: int) -> None:
        self.view.resize(width, height)
        self.view.move(0, 0)
        QTest.qWait(100)

    def shot(self, name: str, widget: Any = None, *, popup: Any = None) -> None:
        """Write ``name.png``, of the window or of a part of it, with a list that hangs open over it."""
        QTest.qWait(150)
        self._shots.mkdir(parents=True, exist_ok=True)
        widget = widget or self.view
        picture = widget.grab()
        if popup is not None:
            painter = QPainter(picture)
            painter.drawPixmap(widget.mapFromGlobal(popup.mapToGlobal(QPoint(0, 0))), popup.grab())
            painter.end()
        picture.save(str(self._shots / f"{name}.png"))

    def load(self, directory: Path) -> None:
        api = self.model.workflow_api
        diffraction = api.load_assembled_diffraction_data(directory / "diffraction.h5")
        api.load_product(directory / "product.h5", diffraction=diffraction)

    def show(self, view: str) -> None:
        """Go to ``processing``, ``object``, …"""
        action = getattr(self.view, f"{view}_action")
        action.trigger()
        action.setChecked(True)
        QTest.qWait(100)

    def pick_algorithm(self, text: str, *, shot: str = "") -> None:
        row = self.algorithms.findText(text)
        assert row >= 0, f"{text} is not listed"
        popup = self.algorithms.view()
        self.algorithms.showPopup()
        self.wait_for(popup.isVisible, 120, "the list of algorithms")
        if shot:
            self.shot(shot, popup=popup.window())
        index = self.algorithms.model().index(row, 0)
        popup.scrollTo(index)
        QTest.mouseClick(popup.viewport(), Qt.MouseButton.LeftButton, pos=popup.visualRect(index).center())
        self.wait_for(
            lambda: self.algorithms.currentText() == text and not popup.isVisible(), 120, f"{text}, picked"
        )
        QTest.qWait(200)  # for the layout of its page, and for whatever should not come

    def on_dialog(self, act: Callable[[Any], None], *, instead_of: Any = None) -> None:
        """Call ``act(dialog)`` as soon as a modal dialog is up; arm it before the click that opens it."""

        def attempt() -> None:
            dialog = QtWidgets.QApplication.activeModalWidget()
            if dialog is None or dialog is instead_of:
                QTimer.singleShot(100, attempt)
                return
            try:
                act(dialog)
            except Exception:
                traceback.print_exc()
                dialog.close()

        QTimer.singleShot(400, attempt)

    def choose_file(self, path: Path, then: Callable[[Any], None] | None = None) -> None:
        """Answer the next file dialog with ``path``, and the dialog that comes after it with ``then``."""

        def choose(dialog: Any) -> None:
            if then is not None:
                self.on_dialog(then, instead_of=dialog)
            dialog.setDirectory(str(path.parent))
            name = dialog.findChild(QtWidgets.QLineEdit, "fileNameEdit")
            name.setText(str(path))
            QTest.qWait(200)
            QTest.keyClick(name, Qt.Key.Key_Return)

        self.on_dialog(choose)

    def train(self, directory: Path) -> None:
        """Click Train and answer the question for the directory."""
        runs = self.monitor.get_completed_runs()
        self.choose_file(directory)
        self.train_button.click()
        self.wait_for(
            lambda: self.monitor.is_processing or self.monitor.get_completed_runs() > runs, 120, "training"
        )

    def scroll_to(self, setting: str) -> None:
        """Have the row of ``Group.Name`` in sight."""
        QTest.qWait(100)  # for the layout
        self.scroll_area.ensureWidgetVisible(self.field(setting))

    def show_object(self, index: int, part: str) -> None:
        """Show a product's object over its whole range: its ``Amplitude``, ``Phase (Unwrapped)``, …"""
        self.show("object")
        tree = self.view.object_view.tree_view
        tree.setCurrentIndex(tree.model().index(index, 0))
        ribbon = self.view.object_image_view.image_ribbon
        parts = ribbon.colormap_group_box.renderer_combo_box
        parts.setCurrentText(part)
        assert parts.currentText() == part, part
        parts.textActivated.emit(part)
        QTest.qWait(200)
        ribbon.data_range_group_box.auto_button.click()
        QTest.qWait(500)

    @property
    def log(self) -> str:
        """What the log pane shows."""
        return str(self.status.text_edit.toPlainText())

    @property
    def error(self) -> BaseException | None:
        """Of the last run."""
        error: BaseException | None = self.monitor.get_last_error()
        return error

    @property
    def products(self) -> int:
        """How many there are."""
        return len(self.model.product_core.product_repository)

    def settings(self, setting: str) -> Any:
        """The parameter ``Group.Name``."""
        group, name = setting.split(".")
        return self.model.settings_registry[f"PtychoPINNPlugin{group}"].parameters()[name]

    def wait_for_log(self, text: str, timeout_s: float) -> float:
        """Seconds until the log pane has shown ``text``."""
        started = time.monotonic()
        self.wait_for(lambda: text in self.log, timeout_s, f"{text!r} in the log pane:\n{self.log}")
        return time.monotonic() - started

    def wait_until_idle(self, timeout_s: float) -> None:
        """Until no task runs, and the window knows."""
        self.wait_for(lambda: not self.monitor.is_processing, timeout_s, "the end of the run")
        self.wait_for(self.status.stop_button.isHidden, 120, "a window without Stop")
        QTest.qWait(200)

    def child(self) -> int:
        """Process id of the worker that runs."""
        found: list[int] = []

        def look() -> bool:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it has just ended
                    if WORKER in process.cmdline():
                        found.append(process.pid)
            return bool(found)

        self.wait_for(look, 120, "a worker")
        return found[-1]

    def wait_for(self, condition: Callable[[], Any], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout_s} s there is still not: {what}")
            QTest.qWait(50)

    # ---- the panel

    @property
    def panel(self) -> Any:
        """The settings page that is shown."""
        page = self.processing._stacked_widget.currentWidget()
        assert isinstance(page, Page), page
        return page.settings_page

    def model_text(self) -> str:
        """What the panel says of the loaded model."""
        labels = self.panel.model_box.findChildren(QtWidgets.QLabel)
        return "\n".join(label.text() for label in labels if label.isVisible())

    def load_model(self, path: Path) -> None:
        """Click Load… in the panel and choose a file."""
        self.choose_file(path)
        self.panel.model_box.load_button.click()

    def field(self, setting: str) -> Any:
        """The widget of ``Group.Name``."""
        return self.panel.row(setting).widget

    def type_in(self, setting: str, value: Any) -> None:
        """Give a setting a value as a person does: with keys in its box, or a click."""
        widget = self.field(setting)
        self.scroll_area.ensureWidgetVisible(widget)
        if isinstance(widget, QtWidgets.QCheckBox):
            if widget.isChecked() != value:
                QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=_check_mark(widget))
        elif isinstance(widget, QtWidgets.QComboBox):
            # keys that follow soon belong to the same word, whatever box they are for
            QTest.qWait(QtWidgets.QApplication.keyboardInputInterval() + 100)
            widget.setFocus()
            QTest.keyClicks(widget, str(value))
        else:
            edit = widget.findChild(QtWidgets.QLineEdit)
            edit.setFocus()
            edit.selectAll()
            QTest.keyClicks(edit, str(value))
            QTest.keyClick(edit, Qt.Key.Key_Return)
            edit.deselect()
        QTest.qWait(50)


def _check_mark(box: Any) -> Any:
    option = QtWidgets.QStyleOptionButton()
    box.initStyleOption(option)
    return box.style().subElementRect(QtWidgets.QStyle.SubElement.SE_CheckBoxIndicator, option, box).center()


def run(script: Callable[[Window], None], *, shots: Path, arguments: Sequence[str] = ()) -> int:
    """Start the application, run ``script`` in its event loop, return its exit code (3: it failed)."""
    import sys

    original = QtWidgets.QApplication.exec
    failed = False

    def exec_with_script(*args: Any) -> int:
        def start() -> None:
            nonlocal failed
            window = None
            try:
                window = Window(shots)
                script(window)
            except BaseException:
                failed = True
                traceback.print_exc()
            if failed or window is None or window.view.isVisible():  # else it has been closed
                QtWidgets.QApplication.exit(0)

        QTimer.singleShot(500, start)
        return int(original())

    setattr(QtWidgets.QApplication, "exec", staticmethod(exec_with_script))  # noqa: B010 (mypy refuses to replace a method)
    sys.argv = ["ptychodus", *arguments]
    from ptychodus.__main__ import main

    code = main()
    return 3 if failed else int(code)
