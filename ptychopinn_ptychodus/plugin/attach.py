"""Entry points -> Ptychodus: reconstructor libraries and their panels, in the stock application.

Ptychodus 1.7 names its libraries and panels in code. :func:`attach` wraps the two constructors that receive
those lists, so that what is registered under the entry-point groups

``ptychodus.reconstructor_libraries``
    ``callable(settings_registry, is_developer_mode_enabled) -> ReconstructorLibrary``
``ptychodus.view_controller_factories``
    ``callable(library, file_dialog_factory) -> ReconstructorViewControllerFactory``

is appended to them. Arguments are bound by name, because their order changed between releases. Nothing here
is particular to one library: a reconstructor takes part in the extras by offering optional methods
(``attach_task_monitor``, ``attach_open_products``, ``require_model``, ``training_curves``, ``begin_stream``,
``add_observer`` for those who want to know when it has something new to show), a library by offering
``close`` and ``settings_groups``, names for the page of one that has no panel.

This module runs each time the application starts: it imports neither the GUI nor a framework. What is done to
the window is in :mod:`.attach_window`, which is imported with the window, and what is done to Ptychodus'
stream processor in :mod:`.attach_stream`, which is imported where there is one.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ..installed import EntryPoint
from ..ptychodus_io.names import LIBRARY
from .extension import (
    Arguments,
    Survive,
    contains,
    diffraction_apis,
    extend,
    libraries_of,
    note_diffraction_api,
    observe,
    registered,
    task_managers,
)
from .open_products import OpenProducts

logger = logging.getLogger(LIBRARY)

LIBRARY_GROUP = "ptychodus.reconstructor_libraries"
CONTROLLER_MODULE = "ptychodus.controller.processing.core"


def attach() -> None:
    """Make this process's Ptychodus find libraries and panels by entry point; safe to call repeatedly."""
    try:
        from ptychodus.model.processing import core
    except ModuleNotFoundError as exc:
        logger.warning("This Ptychodus is too old for reconstructor plugins (%s).", exc)
        return
    extend(core.ProcessingCore, "algorithm_libraries", _make_libraries, _connect_model)
    with Survive("Ptychodus' products could not be extended"):
        from ptychodus.model.product.core import ProductCore

        note_diffraction_api(ProductCore)
    with Survive("Ptychodus' automation could not be extended"):
        from . import attach_automation

        attach_automation.attach()
    with Survive("What belongs to a result is not left beside it"):
        from . import attach_results

        attach_results.attach()
    if "pvapy" in sys.modules:  # Ptychodus' stream processor is imported with it
        from . import attach_stream

        attach_stream.attach()
    if CONTROLLER_MODULE in sys.modules:
        _extend_controller(sys.modules[CONTROLLER_MODULE])
    elif not any(isinstance(finder, _ControllerFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ControllerFinder())


# ---- the model: libraries ---------------------------------------------------------------------------------


def _make_libraries(arguments: Arguments) -> list[Any]:
    developer_mode = logging.getLogger("ptychodus.model.core").getEffectiveLevel() <= logging.DEBUG
    taken = {library.name.casefold() for library in arguments["algorithm_libraries"]}
    libraries: list[Any] = []
    for key, ep in registered(LIBRARY_GROUP).items():
        if key in taken:  # built in by now, or added by another copy of this mechanism
            logger.debug("%s is there already; the entry point %s is left out.", ep.name, ep.value)
            continue
        with Survive(f'The reconstructor library "{ep.name}" ({ep.value}) is left out'):
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
    libraries_of[parameter] = libraries
    if "task_manager" in arguments:
        task_managers[parameter] = arguments["task_manager"]
    reconstructors = [reconstructor for library in libraries for reconstructor in library]
    if not reconstructors:
        return
    _check_model_first(api, parameter, libraries)
    monitor = getattr(api, "task_monitor", None)
    if monitor is None:
        return
    for reconstructor in reconstructors:
        if hasattr(reconstructor, "attach_task_monitor"):
            reconstructor.attach_task_monitor(monitor)
    observe(monitor, functools.partial(_refresh_infer, monitor, parameter, reconstructors))
    _attach_open_products(arguments, api, reconstructors)
    put_foreground_task = getattr(arguments.get("task_manager"), "put_foreground_task", None)
    if put_foreground_task is None:
        return
    refresh = _Soon(put_foreground_task, monitor.notify_observers)
    for library in libraries:
        library.get_logger().addHandler(_Call(refresh))
    for reconstructor in reconstructors:
        if hasattr(reconstructor, "add_observer"):
            observe(reconstructor, refresh)


def _attach_open_products(arguments: Arguments, api: Any, reconstructors: Sequence[Any]) -> None:
    tasks, products = arguments.get("task_manager"), arguments.get("product_api")
    needed = (
        (tasks, "put_background_task"),
        (tasks, "put_foreground_task"),
        (products, "get_item"),
        (products, "insert_product"),
        (api, "get_reconstruct_input"),
    )
    if not all(hasattr(part, name) for part, name in needed):
        return  # Ptychodus 1.5
    open_products = OpenProducts(tasks, api, products, diffraction_apis.get(products))
    for reconstructor in reconstructors:
        if hasattr(reconstructor, "attach_open_products"):
            reconstructor.attach_open_products(open_products)


class _Soon:
    """Has the window's thread do something, from any thread; once, for all that ask until it is done."""

    def __init__(
        self, put_foreground_task: Callable[[Callable[[], None]], None], act: Callable[[], None]
    ) -> None:
        self._put = put_foreground_task
        self._act = act
        self._is_put = threading.Event()

    def __call__(self) -> None:
        if not self._is_put.is_set():
            self._is_put.set()
            self._put(self._run)

    def _run(self) -> None:
        self._is_put.clear()  # first: what happens from now on is news
        self._act()


class _Call(logging.Handler):
    """Calls back at each record: the window shows its log when the progress changes, and not before."""

    def __init__(self, react: Callable[[], None]) -> None:
        super().__init__()
        self._react = react

    def emit(self, record: logging.LogRecord) -> None:
        self._react()


def _check_model_first(api: Any, parameter: Any, libraries: Sequence[Any]) -> None:
    """Refuse a run without a model before Ptychodus has made a product for its result.

    Raised here, the refusal becomes a dialog in the window and no product appears.
    """
    reconstruct = api.reconstruct
    signature = inspect.signature(reconstruct)

    @functools.wraps(reconstruct)
    def checked(*args: Any, **kwargs: Any) -> Any:
        api.set_reconstructor_if_provided(signature.bind(*args, **kwargs).arguments.get("algorithm"))
        current = parameter.get_current_reconstructor()
        for library in libraries:
            if contains(library, current) and hasattr(current, "require_model"):
                try:
                    current.require_model()
                except Exception as exc:
                    library.get_logger().error("%s", exc)  # what the window shows beside its dialog
                    raise
        return reconstruct(*args, **kwargs)

    api.reconstruct = checked


def _refresh_infer(monitor: Any, parameter: Any, reconstructors: Sequence[Any]) -> None:
    """The window looks at ``is_model_loaded`` when the algorithm changes or its own menu loads a model.

    Not when a training ends, or when a panel or a script loads one.
    """
    if not monitor.is_processing and contains(reconstructors, parameter.get_current_reconstructor()):
        parameter.notify_observers()


# ---- the window -------------------------------------------------------------------------------------------


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
    with Survive("Panels of reconstructor plugins are not available"):
        from . import attach_window

        extend(
            module.ProcessingController,
            "view_controller_factories",
            attach_window.make_panels,
            attach_window.connect,
        )
