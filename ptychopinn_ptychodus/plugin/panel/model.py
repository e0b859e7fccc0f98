"""The box that says which model is loaded, and loads and saves one."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any

from ptychodus.view.widgets import ExceptionDialog
from PyQt5.QtCore import pyqtSignal
from PyQt5.QtWidgets import (
    QGroupBox,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...backends.base import ModelFileError
from ...backends.registry import guess_engine, loadable_engines
from ...files import identity
from ...formatting import counted
from ...ptychodus_io.names import LIBRARY
from ...remembered import models_directory
from ..reconstructor import PtychoPINNReconstructor
from .widgets import Form, InfoLabel, Relay, tool_tip

logger = logging.getLogger(LIBRARY)

FILE, FOLDER, ENGINE, TRAINED, DATA, NETWORK, LOSS = (
    "File",
    "Folder",
    "Engine",
    "Trained",
    "Data",
    "Network",
    "Loss",
)
ROWS = (FILE, FOLDER, ENGINE, TRAINED, DATA, NETWORK, LOSS)

Rows = dict[str, tuple[str, str]]
"""Text and tool tip of each row."""


def describe_model(path: Path) -> Rows:
    """What a model file says about itself, for people.

    Raises
    ------
    OSError, ModelFileError
        If it cannot be read.
    """
    engine = guess_engine(path)
    try:
        state = engine.read_state(path)
        description, data = state.description, state.training.train_data_file
    except ModelFileError:  # an engine that does not hand over its models may still describe them
        description, data = engine.describe(path), None
    model, status = description.model, path.stat()
    training = description.history.get("train_loss", [])
    validation = description.history.get("val_loss", [])
    grid = f"{model.gridsize} × {model.gridsize}"
    of_probe = f"{description.data.probe_modes} probe modes, "
    of_probe += f"{description.data.photons_per_pattern:.3g} photons per pattern."
    if description.data.any_probe:
        of_probe = "pretrained for any probe: that of the scan is used, and patterns may be of another size."
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.st_mtime))
    rows: Rows = {
        FILE: (f"{path.name} ({status.st_size / 1e6:.1f} MB)", str(path)),
        FOLDER: (_place(path.parent), str(path.parent)),
        ENGINE: (f"{engine.title}, version {description.version}", "What wrote it."),
        TRAINED: (
            f"{written}, {counted(len(training), 'epoch')}",
            "When the file was written, and after how many epochs.",
        ),
        NETWORK: (
            f"{model.architecture} ({model.model_type}), N {model.N}, grid {grid}",
            f"Learnt from {'the diffraction' if model.model_type == 'pinn' else 'an object that was known'}: "
            f"patterns of {model.N} × {model.N} pixels in groups of {model.channels}. Filters scale "
            f"{model.n_filters_scale}, {of_probe}",
        ),
    }
    if data is not None:
        rows[DATA] = (str(data), f"{data}: the directory that it was trained in.")
    if training:
        text = f"{training[-1]:.3g}" + (f", validation {validation[-1]:.3g}" if validation else "")
        rows[LOSS] = (text, f"Of the last epoch. Lowest: {min(validation or training):.4g}.")
    return rows


def _place(directory: Path) -> str:
    """A directory for people: a remembered one without what is the same for all of them."""
    remembered = models_directory()
    if remembered in directory.parents:
        return str(directory.relative_to(remembered))
    return str(directory)


class ModelBox(QGroupBox):
    """The loaded model of one reconstructor, live."""

    _described = pyqtSignal(object, object)  # path, and rows or what went wrong

    def __init__(self, reconstructor: PtychoPINNReconstructor, file_dialog_factory: Any) -> None:
        super().__init__("Loaded Model")
        self._reconstructor = reconstructor
        self._dialogs = file_dialog_factory
        self._path: Path | None = None
        self._identity: tuple[int, ...] = ()
        self._status = InfoLabel()
        self._values = {name: InfoLabel() for name in ROWS}
        self.load_button = QPushButton("Load…")
        self.save_button = QPushButton("Save…")
        self.train_button = QPushButton("Train on Open")
        self.train_all_button = QPushButton("Train on All")
        self.train_button.setToolTip(
            tool_tip(
                "Train on the product that is selected above: there is no directory to choose and nothing to "
                "export. The model goes to a new directory of yours, and is loaded when the training ends.",
                str(models_directory()),
            )
        )
        self.train_all_button.setToolTip(
            tool_tip(
                "Train one model on all open products with patterns of the size of the selected one's. Of "
                "several with the same data, such as results, one is taken."
            )
        )
        self.load_button.setToolTip(tool_tip("Load a model that was trained before, of any engine."))
        self.save_button.setToolTip(tool_tip("Keep a copy: training in the same directory replaces it."))

        self.form = Form()
        for name, value in self._values.items():
            self.form.add(f"{name}:", value)
        buttons = QHBoxLayout()
        buttons.addWidget(self.load_button)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout()
        layout.addWidget(self._status)
        layout.addLayout(self.form)
        layout.addLayout(buttons)
        self._products = reconstructor.open_products
        if self._products is not None:
            trainings = QHBoxLayout()
            trainings.addWidget(self.train_button)
            trainings.addWidget(self.train_all_button)
            layout.addLayout(trainings)
            Relay(self.refresh_trainings, self).watch(self._products)
            self.refresh_trainings()
        self.setLayout(layout)

        self.load_button.clicked.connect(lambda: self._guarded("Load Model", self._load))
        self.save_button.clicked.connect(lambda: self._guarded("Save Model", self._save))
        self.train_button.clicked.connect(lambda: self._guarded("Train", self._train))
        self.train_all_button.clicked.connect(
            lambda: self._guarded("Train", lambda: self._train(all_alike=True))
        )
        self._described.connect(self._show_rows)
        Relay(self.refresh, self).watch(reconstructor)
        self._show_rows(None, {})

    def refresh(self) -> None:
        """Look at the loaded model again; returns at once."""
        try:
            path = self._reconstructor.require_model() if self._reconstructor.is_model_loaded() else None
        except OSError as exc:  # it is no longer there
            self._path, self._identity = None, ()
            self._show_rows(None, str(exc))
            return
        current = () if path is None else identity(path)
        if path is not None and (path, current) != (self._path, self._identity):
            self._path, self._identity = path, current
            # a large model takes a moment to read
            threading.Thread(target=self._describe, args=(path,), daemon=True).start()

    def refresh_trainings(self) -> None:
        """Enable what can be trained on now."""
        count = 0
        with contextlib.suppress(Exception):  # nothing is selected, or it has no data
            if self._products is not None and not self._products.is_busy:
                count = len(self._products.alike(self._products.product(self._products.selected())))
        self.train_button.setEnabled(count > 0)
        self.train_all_button.setEnabled(count > 1)

    def _train(self, *, all_alike: bool = False) -> None:
        self._reconstructor.train_on_open(all_alike=all_alike)

    def _describe(self, path: Path) -> None:
        answer: Rows | str
        try:
            answer = describe_model(path)
        except Exception as exc:  # whatever a file can do to its reader
            answer = str(exc)
        with contextlib.suppress(RuntimeError):  # the window is gone
            self._described.emit(path, answer)

    def _show_rows(self, path: Path | None, answer: Rows | str) -> None:
        if path != self._path:
            return  # another one has been loaded in the meantime
        rows = {} if isinstance(answer, str) else answer
        for name, label in self._values.items():
            text, tip = rows.get(name, ("", ""))
            label.show_text(text, tip)
        self.form.show_rows({label: bool(label.text()) for label in self._values.values()})
        if isinstance(answer, str):
            self._status.show_text(f"⚠ {answer}")
        else:
            self._status.show_text("None yet: train one, or load a file.")
        self._status.setVisible(not rows)
        self.save_button.setEnabled(path is not None)

    def _guarded(self, what: str, act: Any) -> None:
        try:
            act()
        except Exception as exc:  # the reconstructor has logged it
            ExceptionDialog.show_exception(what, exc)
        self.refresh()

    def _load(self) -> None:
        filters = _name_filters()
        path, _ = self._dialogs.get_open_file_path(
            self.window(), "Load Model", name_filters=filters, selected_name_filter=filters[0]
        )
        if path:
            self._reconstructor.load_model_from_file(path)

    def _save(self) -> None:
        engine = guess_engine(self._reconstructor.require_model())
        path, _ = self._dialogs.get_save_file_path(
            self.window(),
            "Save Model",
            name_filters=[engine.model_filter],
            selected_name_filter=engine.model_filter,
        )
        if not path:
            return
        if not path.name.endswith(engine.model_suffix):
            path = path.with_name(path.name + engine.model_suffix)
            if path.exists() and not _may_replace(self, path):  # the dialog has asked about another name
                return
        self._reconstructor.save_model(path)


def _may_replace(parent: QWidget, path: Path) -> bool:
    question = f"{path.name} already exists.\nDo you want to replace it?"
    return QMessageBox.question(parent, "Save Model", question) == QMessageBox.StandardButton.Yes


def _name_filters() -> list[str]:
    """Of a dialog that opens models: any, or those of one engine."""
    # an engine that cannot be loaded opens nothing
    engines = list(loadable_engines(on_broken=lambda _: None))
    patterns = " ".join(f"*{engine.model_suffix}" for engine in engines)
    return [f"Models ({patterns})", *(engine.model_filter for engine in engines)]
