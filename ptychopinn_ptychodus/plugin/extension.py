"""How classes of Ptychodus are extended with what packages register, for the model and for the window alike.

It imports neither the GUI nor a framework.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from ..installed import EntryPoint, EntryPoints, entry_points
from ..ptychodus_io.names import LIBRARY

logger = logging.getLogger(LIBRARY)

# Several packages may carry a copy of this mechanism: the first one wraps, the others see the mark.
MARK = "__ptychodus_entry_points__"

Arguments = dict[str, Any]

libraries_of: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
"""What was added, by algorithm parameter: the one object that an application's model and window share."""

task_managers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""Ptychodus' task managers, likewise by algorithm parameter."""


diffraction_apis: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""What opens patterns in Ptychodus, by what opens products there."""


def note_diffraction_api(cls: type) -> None:
    """Have Ptychodus' core of products, as it is made, note what goes into :data:`diffraction_apis`."""
    original = cls.__init__  # type: ignore[misc]
    signature = inspect.signature(original)
    if hasattr(original, MARK) or "diffraction_api" not in signature.parameters:
        return  # an older Ptychodus

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        with Survive(f"{cls.__qualname__} could not be looked at"):
            bound = signature.bind(self, *args, **kwargs)
            diffraction_apis[self.product_api] = bound.arguments["diffraction_api"]

    setattr(__init__, MARK, True)
    cls.__init__ = __init__  # type: ignore[misc]


def extend(
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
        with Survive(f"{cls.__qualname__} could not be extended"):
            added = make(bound.arguments)
        bound.arguments[argument] = [*bound.arguments[argument], *added]
        original(*bound.args, **bound.kwargs)
        with Survive(f"{cls.__qualname__} could not be connected to its plugins"):
            connect(bound.arguments, added)

    setattr(__init__, MARK, True)
    cls.__init__ = __init__  # type: ignore[misc]


class Survive:
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


def registered(group: str) -> dict[str, EntryPoint]:
    """What installed packages register under an entry-point group, by name in lower case."""
    found = _entry_points(tuple(sys.path)).select(group=group)
    return {ep.name.casefold(): ep for ep in sorted(found, key=lambda ep: ep.name)}


@functools.lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> EntryPoints:
    # once for libraries and panels: in a large environment, it is most of what the plugin adds to the start
    return entry_points()


def contains(reconstructors: Iterable[Any], wanted: Any) -> bool:
    """Whether ``wanted`` is one of them: itself, and not an equal one."""
    return any(reconstructor is wanted for reconstructor in reconstructors)


def observe(observable: Any, react: Callable[[], None]) -> None:
    """Call back whenever an observable of Ptychodus notifies its observers."""
    from ptychodus.api.observer import Observable, Observer

    class Reaction(Observer):
        def _update(self, observable: Observable) -> None:
            react()

    observable.add_observer(Reaction())  # the observable keeps it alive
