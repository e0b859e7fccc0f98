"""Entry points -> Ptychodus: reconstructor libraries and their panels, in the stock application.

Ptychodus 1.7 names its libraries and panels in code. :func:`attach` wraps the two constructors that receive
those lists, so that what is registered under the entry-point groups

``ptychodus.reconstructor_libraries``
    ``callable(settings_registry, is_developer_mode_enabled) -> ReconstructorLibrary``
``ptychodus.view_controller_factories``
    ``callable(library, file_dialog_factory) -> ReconstructorViewControllerFactory``

is appended to them. Arguments are bound by name, because their order changed between releases. Nothing here
is particular to one library: a reconstructor takes part in the extras by offering optional methods
(``attach_task_monitor``, ``require_model``, ``training_curves``, ``add_observer`` for those who want to know
when it has something new to show), a library by offering ``close`` and ``settings_groups``, names for the
page of one that has no panel.

This module runs each time the application starts: it imports neither the GUI nor a framework.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

logger = logging.getLogger("PtychoPINN-Plugin")

LIBRARY_GROUP = "ptychodus.reconstructor_libraries"
PANEL_GROUP = "ptychodus.view_controller_factories"
CONTROLLER_MODULE = "ptychodus.controller.processing.core"

# Several packages may carry a copy of this mechanism: the first one wraps, the others see the mark.
MARK = "__ptychodus_entry_points__"

Arguments = dict[str, Any]

# The algorithm parameter is the one object that the model and the window of an application share.
_libraries_of: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def attach() -> None:
    """Make this process's Ptychodus find libraries and panels by entry point; safe to call repeatedly."""
    try:
        from ptychodus.model.processing import core
    except ModuleNotFoundError as exc:
        logger.warning("This Ptychodus is too old for reconstructor plugins (%s).", exc)
        return
    _extend(core.ProcessingCore, "algorithm_libraries", _make_libraries, _connect_model)
    if CONTROLLER_MODULE in sys.modules:
        _extend_controller(sys.modules[CONTROLLER_MODULE])
    elif not any(isinstance(finder, _ControllerFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ControllerFinder())


def _extend(
    cls: type,
    argument: str,
    make: Callable[[Arguments], list[Any]],
    connect: Callable[[Arguments, list[Any]], None],
) -> None:
    """Have ``cls(...)`` receive ``[*argument, *make(arguments)]``, and call ``connect`` when it is built."""
    original = cls.__init__  # type: ignore[misc]
    if hasattr(original, MARK):
        return
    signature = inspect.signature(original)
    if argument not in signature.parameters:
        raise TypeError(f"{cls.__qualname__} has no argument {argument!r}: this Ptychodus is not supported.")

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        added: list[Any] = []
        with _Survive(f"{cls.__qualname__} could not be extended"):
            added = make(bound.arguments)
        bound.arguments[argument] = [*bound.arguments[argument], *added]
        original(*bound.args, **bound.kwargs)
        with _Survive(f"{cls.__qualname__} could not be connected to its plugins"):
            connect(bound.arguments, added)

    setattr(__init__, MARK, True)
    cls.__init__ = __init__  # type: ignore[misc]


class _Survive:
    """Turns whatever a plugin raises (``SystemExit`` included) into a log entry."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: Any) -> bool:
        if isinstance(exc, (Exception, SystemExit)):
            logger.error("%s: %s: %s", self._message, type(exc).__name__, exc, exc_info=exc)
            return True
        return False


def _registered(group: str) -> dict[str, EntryPoint]:
    found = _entry_points(tuple(sys.path)).select(group=group)
    return {ep.name.casefold(): ep for ep in sorted(found, key=lambda ep: ep.name)}


@functools.lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> Any:
    # once for libraries and panels: in a large environment, it is most of what the plugin adds to the start
    return entry_points()


# ---- the model: libraries ---------------------------------------------------------------------------------


def _make_libraries(arguments: Arguments) -> list[Any]:
    developer_mode = logging.getLogger("ptychodus.model.core").getEffectiveLevel() <= logging.DEBUG
    taken = {library.name.casefold() for library in arguments["algorithm_libraries"]}
    libraries: list[Any] = []
    for key, ep in _registered(LIBRARY_GROUP).items():
        if key in taken:  # built in by now, or added by another copy of this mechanism
            logger.debug("%s is there already; the entry point %s is left out.", ep.name, ep.value)
            continue
        with _Survive(f'The reconstructor library "{ep.name}" ({ep.value}) is left out'):
            library = ep.load()(arguments["settings_registry"], developer_mode)
            _check_library(ep, library)
            libraries.append(library)
    return libraries


def _check_library(ep: EntryPoint, library: Any) -> None:
    if library.name.casefold() != ep.name.casefold():
        raise ValueError(f'it calls itself "{library.name}"')
    if "_" in library.name:  # Ptychodus cuts "library_reconstructor" at the first underscore
        raise ValueError("the name of a library has no underscore")
    library.get_logger()
    for reconstructor in library:
        if not reconstructor.name:
            raise ValueError("one of its reconstructors has no name")


def _connect_model(arguments: Arguments, libraries: list[Any]) -> None:
    core = arguments["self"]
    api, parameter = core.processing_api, core.algorithm_parameter
    _libraries_of[parameter] = libraries
    reconstructors = [reconstructor for library in libraries for reconstructor in library]
    if not reconstructors:
        return
    _check_model_first(api, parameter, reconstructors)
    monitor = getattr(api, "task_monitor", None)
    if monitor is None:
        return
    for reconstructor in reconstructors:
        if hasattr(reconstructor, "attach_task_monitor"):
            reconstructor.attach_task_monitor(monitor)
    _observe(monitor, functools.partial(_refresh_infer, monitor, parameter, reconstructors))
    put_foreground_task = getattr(arguments.get("task_manager"), "put_foreground_task", None)
    for reconstructor in reconstructors:
        if hasattr(reconstructor, "add_observer") and put_foreground_task is not None:
            # it may be news from any thread, and the window belongs to one
            _observe(reconstructor, functools.partial(put_foreground_task, monitor.notify_observers))


def _check_model_first(api: Any, parameter: Any, reconstructors: Sequence[Any]) -> None:
    """Refuse a run without a model before Ptychodus has made a product for its result.

    The window's "Infer" is enabled by loading data whether there is a model or not; raised here, the refusal
    becomes a dialog there and no product appears.
    """
    reconstruct = api.reconstruct
    signature = inspect.signature(reconstruct)

    @functools.wraps(reconstruct)
    def checked(*args: Any, **kwargs: Any) -> Any:
        api.set_reconstructor_if_provided(signature.bind(*args, **kwargs).arguments.get("algorithm"))
        current = parameter.get_current_reconstructor()
        if _contains(reconstructors, current) and hasattr(current, "require_model"):
            current.require_model()
        return reconstruct(*args, **kwargs)

    api.reconstruct = checked


def _refresh_infer(monitor: Any, parameter: Any, reconstructors: Sequence[Any]) -> None:
    """The window looks at ``is_model_loaded`` when the algorithm changes or its own menu loads a model.

    Not when a training ends, or when a panel or a script loads one.
    """
    if not monitor.is_processing and _contains(reconstructors, parameter.get_current_reconstructor()):
        parameter.notify_observers()


def _contains(reconstructors: Iterable[Any], wanted: Any) -> bool:
    return any(reconstructor is wanted for reconstructor in reconstructors)


def _observe(observable: Any, react: Callable[[], None]) -> None:
    from ptychodus.api.observer import Observable, Observer

    class Reaction(Observer):
        def _update(self, observable: Observable) -> None:
            react()

    observable.add_observer(Reaction())  # the observable keeps it alive


# ---- the window: panels, training curves, closing ---------------------------------------------------------


class _ControllerFinder:
    """Waits for the GUI to be imported, since importing it to patch it would cost every script 0.7 s."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != CONTROLLER_MODULE:
            return None
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_extend(module: ModuleType) -> None:
                execute(module)
                _extend_controller(module)

            spec.loader.exec_module = execute_and_extend  # type: ignore[method-assign]
        return spec


def _extend_controller(module: ModuleType) -> None:
    with _Survive("Panels of reconstructor plugins are not available"):
        _extend(module.ProcessingController, "view_controller_factories", _make_panels, _connect_window)


class _Panel:
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
        from PyQt5.QtCore import Qt
        from PyQt5.QtWidgets import QLabel

        label = QLabel(text)
        label.setWordWrap(True)  # the widest page sets the width of all
        label.setMargin(12)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        label.setAlignment(Qt.AlignmentFlag.AlignTop)
        return label


def _make_panels(arguments: Arguments) -> list[Any]:
    registered = _registered(PANEL_GROUP)
    dialogs = arguments["file_dialog_factory"]
    panels = []
    for library in _libraries_of.get(arguments["algorithm_parameter"], []):
        ep = registered.get(library.name.casefold())
        create = None if ep is None else functools.partial(_load_panel, ep, library, dialogs)
        panels.append(_Panel(library, create))
    return panels


def _load_panel(ep: EntryPoint, library: Any, file_dialog_factory: Any) -> Any:
    return ep.load()(library, file_dialog_factory)


def _connect_window(arguments: Arguments, panels: list[Any]) -> None:
    parameter, status_view = arguments["algorithm_parameter"], arguments["status_view"]
    libraries = _libraries_of.get(parameter, [])
    monitor = getattr(arguments["processing_api"], "task_monitor", None)
    if monitor is not None and libraries:
        reconstructors = [reconstructor for library in libraries for reconstructor in library]
        _observe(monitor, functools.partial(_draw_training, monitor, reconstructors, status_view))
    _close_with_window(libraries)


def _draw_training(monitor: Any, reconstructors: Sequence[Any], status_view: Any) -> None:
    """Ptychodus drops the losses of a training: draw them where it draws those of a reconstruction."""
    for reconstructor in reconstructors:
        curves = getattr(reconstructor, "training_curves", None)
        if not curves or not monitor.is_processing:
            continue
        axes = status_view.axes
        axes.clear()
        axes.set_title(f"{reconstructor.name} training")
        axes.set_xlabel("Epoch")
        axes.set_ylabel("Loss")
        axes.grid(True)
        positive = all(loss.value > 0 for losses in curves.values() for loss in losses)
        draw = axes.semilogy if positive else axes.plot  # a Poisson likelihood may well be negative
        for label, losses in curves.items():
            draw([loss.epoch for loss in losses], [loss.value for loss in losses], ".-", label=label)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)  # there is no half an epoch
        axes.figure.tight_layout()  # a narrow range of losses has long labels
        status_view.figure_canvas.draw_idle()


def _close_with_window(libraries: Iterable[Any]) -> None:
    """End what the libraries run when the window closes: Ptychodus itself waits for running tasks."""
    from PyQt5.QtWidgets import QApplication

    application = QApplication.instance()
    if application is None:
        return
    for library in libraries:
        if hasattr(library, "close"):
            application.aboutToQuit.connect(library.close)
