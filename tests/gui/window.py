"""Drive the real Ptychodus window from a script: the stock ``main()``, a display, real clicks.

It reaches into private attributes of Ptychodus 1.7, which is what such a test has to do; they are named here
and nowhere else. Screenshots are taken by Qt itself, so that they work on any display, offscreen too.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PyQt5 import QtWidgets
from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtTest import QTest

from ptychopinn_ptychodus.plugin.panel import Page


class Window:
    """The window and what a person does in it."""

    def __init__(self, shots: Path) -> None:
        self._shots = shots
        controller = next(o for o in gc.get_objects() if type(o).__name__ == "ControllerCore")
        self.model = controller.model
        self.view = controller.view
        self.processing = controller._processing_controller
        self.algorithms = self.processing._algorithm_view_controller.get_widget()
        self.products = self.processing._product_view_controller.get_widget()
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

    def shot(self, name: str, widget: Any = None) -> None:
        """Write ``name.png``, of the window or of a part of it."""
        QTest.qWait(150)
        self._shots.mkdir(parents=True, exist_ok=True)
        (widget or self.view).grab().save(str(self._shots / f"{name}.png"))

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
        self.algorithms.showPopup()
        QTest.qWait(300)
        if shot:
            self.shot(shot)
        popup = self.algorithms.view()
        index = self.algorithms.model().index(self.algorithms.findText(text), 0)
        popup.scrollTo(index)
        QTest.mouseClick(popup.viewport(), Qt.LeftButton, pos=popup.visualRect(index).center())
        QTest.qWait(300)

    def on_dialog(self, act: Callable[[Any], None], delay_ms: int = 400) -> None:
        """Call ``act(dialog)`` as soon as a modal dialog is up; arm it before the click that opens it."""

        def attempt() -> None:
            dialog = QtWidgets.QApplication.activeModalWidget()
            if dialog is None:
                QTimer.singleShot(100, attempt)
                return
            try:
                act(dialog)
            except Exception:
                traceback.print_exc()
                dialog.close()

        QTimer.singleShot(delay_ms, attempt)

    def choose_file(self, path: Path) -> None:
        """Answer the next file dialog with ``path``."""

        def choose(dialog: Any) -> None:
            dialog.setDirectory(str(path.parent))
            name = dialog.findChild(QtWidgets.QLineEdit, "fileNameEdit")
            name.setText(str(path))
            QTest.qWait(200)
            QTest.keyClick(name, Qt.Key_Return)

        self.on_dialog(choose)

    def train(self, directory: Path) -> None:
        """Click Train and answer the question for the directory."""
        self.choose_file(directory)
        self.train_button.click()
        self.wait_for(lambda: self.monitor.is_processing, 10, "training")

    def scroll_to(self, setting: str) -> None:
        """Have the row of ``Group.Name`` in sight."""
        QTest.qWait(100)  # for the layout
        self.scroll_area.ensureWidgetVisible(self.field(setting))

    def show_object(self, index: int) -> None:
        """Show the object of a product."""
        self.show("object")
        tree = self.view.object_view.tree_view
        tree.setCurrentIndex(tree.model().index(index, 0))
        QTest.qWait(500)

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

    def field(self, setting: str) -> Any:
        """The widget of ``Group.Name``."""
        return self.panel.row(setting).widget

    def type_in(self, setting: str, value: Any) -> None:
        """Give a setting a value as a person does: with keys in its box, or a click."""
        widget = self.field(setting)
        self.scroll_area.ensureWidgetVisible(widget)
        if isinstance(widget, QtWidgets.QCheckBox):
            if widget.isChecked() != value:
                QTest.mouseClick(widget, Qt.LeftButton, pos=_check_mark(widget))
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
            QTest.keyClick(edit, Qt.Key_Return)
            edit.deselect()
        QTest.qWait(50)


def _check_mark(box: Any) -> Any:
    option = QtWidgets.QStyleOptionButton()
    box.initStyleOption(option)
    return box.style().subElementRect(QtWidgets.QStyle.SE_CheckBoxIndicator, option, box).center()


def run(script: Callable[[Window], None], *, shots: Path, arguments: Sequence[str] = ()) -> int:
    """Start the application, run ``script`` in its event loop, return its exit code (3: it failed)."""
    import sys

    original = QtWidgets.QApplication.exec
    failed = False

    def exec_with_script(*args: Any) -> int:
        def start() -> None:
            nonlocal failed
            try:
                script(Window(shots))
            except BaseException:
                failed = True
                traceback.print_exc()
            QtWidgets.QApplication.exit(0)

        QTimer.singleShot(500, start)
        return int(original())

    QtWidgets.QApplication.exec = staticmethod(exec_with_script)
    sys.argv = ["ptychodus", *arguments]
    from ptychodus.__main__ import main

    code = main()
    return 3 if failed else int(code)
