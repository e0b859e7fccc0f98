"""What :mod:`.attach` does to the window: pages of the libraries, losses of a training, "Infer", the log.

Imported with the window only. As there, nothing is particular to one library.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from PyQt5.QtCore import QAbstractProxyModel, Qt
from PyQt5.QtWidgets import QApplication, QComboBox, QLabel

from ..installed import EntryPoint
from ..ptychodus_io.names import LIBRARY
from .extension import Arguments, Survive, contains, libraries_of, observe, registered

logger = logging.getLogger(LIBRARY)

PANEL_GROUP = "ptychodus.view_controller_factories"


class Panel:
    """A view-controller factory that answers with a notice where the real one is missing or broken."""

    def __init__(self, library: Any, create: Callable[[], Any] | None) -> None:
        self.name = library.name
        self._library = library
        self._create = create
        self._factory: Any = None

    def create_view_controller(self, reconstructor_name: str) -> Any:
        if self._create is None:
            groups = "".join(f"\n    [{group}]" for group in getattr(self._library, "settings_groups", ()))
            return self._notice(
                f"{self.name} runs with the settings that are loaded.\n\nThere is no panel for them here. To "
                "change one, go to Settings, save them to a file, edit the file, and open it again."
                + (f"\n\nSections of {self.name} in the file:\n{groups}" if groups else "")
            )
        try:
            if self._factory is None:
                self._factory = self._create()
            return self._factory.create_view_controller(reconstructor_name)
        except (Exception, SystemExit) as exc:
            logger.exception("The settings panel of %s failed.", self.name)
            return self._notice(f"The settings panel of {self.name} failed:\n\n{type(exc).__name__}: {exc}")

    @staticmethod
    def _notice(text: str) -> Any:
        label = QLabel(text)
        label.setWordWrap(True)  # the widest page sets the width of all
        label.setMargin(12)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        label.setAlignment(Qt.AlignmentFlag.AlignTop)
        return label


def make_panels(arguments: Arguments) -> list[Any]:
    """One for each library that was added to this application."""
    factories = registered(PANEL_GROUP)
    dialogs = arguments["file_dialog_factory"]
    panels = []
    for library in libraries_of.get(arguments["algorithm_parameter"], []):
        ep = factories.get(library.name.casefold())
        create = None if ep is None else functools.partial(_load_panel, ep, library, dialogs)
        panels.append(Panel(library, create))
    return panels


def _load_panel(ep: EntryPoint, library: Any, file_dialog_factory: Any) -> Any:
    return ep.load()(library, file_dialog_factory)


def connect(arguments: Arguments, panels: list[Any]) -> None:
    """Have the window follow what the added libraries do."""
    parameter, status_view = arguments["algorithm_parameter"], arguments["status_view"]
    libraries = libraries_of.get(parameter, [])
    monitor = getattr(arguments["processing_api"], "task_monitor", None)
    if monitor is not None and libraries:
        reconstructors = [reconstructor for library in libraries for reconstructor in library]
        observe(monitor, TrainingPlot(monitor, reconstructors, status_view).refresh)
        refuse_infer(parameter, reconstructors, arguments.get("view"), arguments.get("product_table_model"))
        follow_products(reconstructors, monitor, arguments.get("view"), arguments.get("product_table_model"))
        follow_log(status_view.text_edit.verticalScrollBar())
    select_what_is_shown(parameter, libraries)
    close_with_window(libraries)


def select_what_is_shown(parameter: Any, libraries: Iterable[Any]) -> None:
    """Where the selected algorithm does not exist, select the one that the window shows, if it was added.

    The default algorithm is not always installed. The window then shows the first one of its list, with its
    page and its actions, but runs none at all: "Infer" leaves a product that is a copy of the input.
    """
    listed = list(parameter.available_reconstructors())
    names = {library.name.casefold() for library in libraries}
    if listed and parameter.get_value() not in listed and parameter.split_key(listed[0])[0] in names:
        parameter.set_value(listed[0])


def refuse_infer(parameter: Any, reconstructors: Sequence[Any], view: Any, products: Any) -> None:
    """Leave "Infer" disabled while there is no model, whatever happens to the products.

    The window enables it for each product that has data. This is connected to the same signals, and therefore
    comes after it; with a model, the window's own decision stands.
    """

    def look_again(*_: Any) -> None:
        with Survive("The action buttons could not be brought up to date"):  # Qt would end the application
            current = parameter.get_current_reconstructor()
            if contains(reconstructors, current) and not getattr(current, "is_model_loaded", lambda: True)():
                parameter.notify_observers()

    for combo in _combos(view, products):
        _connect_changes(combo, look_again)


def follow_products(reconstructors: Sequence[Any], monitor: Any, view: Any, products: Any) -> None:
    """Tell reconstructors which product is selected, and when that, the list or a run's state changes."""
    followed = {id(one): one for each in reconstructors if (one := getattr(each, "open_products", None))}
    for open_products in followed.values():

        def tell(*_: Any, of: Any = open_products) -> None:
            with Survive("The products that are open could not be followed"):
                of.notify_observers()

        for combo in _combos(view, products):
            open_products.selected = combo.currentIndex
            _connect_changes(combo, tell)
            break
        observe(monitor, tell)


def _combos(view: Any, products: Any) -> list[Any]:
    """The boxes in which one of the products is selected."""
    if view is None or products is None:
        return []
    found = []
    for combo in view.findChildren(QComboBox):
        model = combo.model()
        if isinstance(model, QAbstractProxyModel) and model.sourceModel() is products:
            found.append(combo)
    return found


def _connect_changes(combo: Any, react: Callable[..., None]) -> None:
    model = combo.model()
    combo.currentIndexChanged.connect(react)
    for signal in (model.dataChanged, model.rowsInserted, model.rowsRemoved):
        signal.connect(react)


def follow_log(bar: Any) -> None:
    """Keep the end of the log in sight: Qt loses it when the progress bar takes a part of its place."""
    at_end = True

    def look(value: int) -> None:
        nonlocal at_end
        at_end = value == bar.maximum()

    def follow(minimum: int, maximum: int) -> None:
        if at_end:
            bar.setValue(maximum)

    bar.valueChanged.connect(look)
    bar.rangeChanged.connect(follow)


class TrainingPlot:
    """Draws the losses of a training, which Ptychodus drops, where it draws those of a reconstruction."""

    def __init__(self, monitor: Any, reconstructors: Sequence[Any], status_view: Any) -> None:
        self._monitor = monitor
        self._reconstructors = reconstructors
        self._status_view = status_view
        self._name = ""
        self._curves: Mapping[str, Sequence[Any]] = {}

    def refresh(self) -> None:
        """Draw the losses of the training that runs, and once more those of one that has ended."""
        is_running = False
        for reconstructor in self._reconstructors if self._monitor.is_processing else ():
            curves = getattr(reconstructor, "training_curves", None)
            if curves:
                self._name, self._curves, is_running = reconstructor.name, curves, True
        if self._curves:
            self._draw("the first epoch is on its way" if is_running else "it ended before its first epoch")
        if not is_running:
            self._curves = {}

    def _draw(self, without_epochs: str) -> None:
        axes = self._status_view.axes
        axes.clear()
        axes.set_xlabel("Epoch")
        axes.set_ylabel("Loss")
        # copies, since another thread adds to them
        curves = {label: list(losses) for label, losses in self._curves.items() if losses}
        if curves:
            axes.set_title(f"{self._name} training")
            _draw_curves(axes, curves)
        else:
            axes.set_title(f"{self._name} training: {without_epochs}")
            axes.set_xticks([])
            axes.set_yticks([])
        axes.figure.tight_layout()  # a narrow range of losses has long labels
        self._status_view.figure_canvas.draw_idle()


def _draw_curves(axes: Any, curves: Mapping[str, Sequence[Any]]) -> None:
    positive = all(loss.value > 0 for losses in curves.values() for loss in losses)
    draw = axes.semilogy if positive else axes.plot  # a Poisson likelihood may well be negative
    for label, losses in curves.items():
        draw([loss.epoch for loss in losses], [loss.value for loss in losses], ".-", label=label)
    axes.legend()
    axes.grid(True)
    axes.grid(True, which="minor", axis="y", alpha=0.3)  # a narrow range has no major line
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # there is no half an epoch


def close_with_window(libraries: Iterable[Any]) -> None:
    """End what the libraries run when the window closes: Ptychodus itself waits for running tasks."""
    application = QApplication.instance()
    if application is None:
        return
    for library in libraries:
        if hasattr(library, "close"):
            application.aboutToQuit.connect(library.close)
