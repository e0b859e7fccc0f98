"""What a worker says of its job, one JSON object a line, and errors that cross from process to process.

The worker writes them to its standard output, which it keeps for this: whatever libraries print goes to
standard error. Each has a ``kind``:

``begun``
    the first line of each job after the first, which the parent waits for.
``log``
    ``level``, ``name``, ``text``: a log record.
``resumed``
    ``history``: losses by name of the epochs that an interrupted training has behind it, which goes on now.
``scan``
    ``name``, ``number``, ``count``: of several scans to learn from, the one that is read and examined now.
``learning``
    the first batch is done: from now on there is something to lose.
``batch``
    ``epoch``, ``batch``, ``batches``: a batch is done, for jobs that ask for these messages.
``epoch``
    the fields of an :class:`~ptychopinn_ptychodus.backends.base.EpochReport`.
``findings``
    ``findings``: what the examination of the scan has found, as :meth:`.Report.to_json` gives it.
``preview``
    ``epoch``: the object after it lies beside the model, see :mod:`.preview`.
``progress``
    ``fraction`` of the work done, 0 to 1; before ``learning``, that is making the scans to learn from.
``network``
    the network's object is there, and is being refined.
``refinement``
    the fields of a :class:`~ptychopinn_ptychodus.refinement.RefinementReport`.
``result``
    the last line of a job that ended well; its fields depend on the job. A reconstruction's ``verdict`` holds
    the findings about its object.
``error``
    the last line of one that did not: ``classes`` (names, most derived first), ``text``, ``traceback``, and
    ``os`` (errno, text, file) for an ``OSError``.

A line ``stop`` on the worker's standard input asks it to keep its best state and end. The end of that input
means that the parent is gone, and has the same effect. Of a worker that stays after its job, a line of
:func:`order_of_job` asks for another one; while it waits, the end of that input ends it at once.
"""

from __future__ import annotations

import builtins
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backends.base import ModelFileError
from ..backends.framework import EngineUnavailableError
from ..data.examination import ExaminationError
from ..files import NoRoomError

Message = dict[str, Any]

Send = Callable[..., None]
"""Sends one message: called with its ``kind``, and its fields by name."""

STOP = "stop"
"""The line that asks a worker to keep its best state and end."""


def order_of_job(directory: Path, stay_s: float) -> str:
    """The line that asks a worker for the job in ``directory``, and to stay ``stay_s`` seconds after it."""
    return json.dumps({"directory": str(directory), "stay_s": stay_s})


def read_order_of_job(line: str) -> tuple[Path, float]:
    """Inverse of :func:`order_of_job`."""
    order = json.loads(line)
    return Path(order["directory"]), float(order["stay_s"])


_OWN_ERRORS: dict[str, type[Exception]] = {
    cls.__name__: cls for cls in (ModelFileError, EngineUnavailableError, ExaminationError, NoRoomError)
}


class ChildDiedError(RuntimeError):
    """The worker ended without an answer; the message says how, and shows its last output."""


def describe_error(exc: BaseException) -> dict[str, Any]:
    """An exception as the fields of an ``error`` message."""
    fields: dict[str, Any] = {
        "classes": [cls.__name__ for cls in type(exc).__mro__],
        "text": str(exc) or type(exc).__name__,
        "traceback": "".join(traceback.format_exception(exc)),
    }
    if isinstance(exc, OSError) and exc.errno is not None:
        fields["os"] = [exc.errno, exc.strerror, None if exc.filename is None else str(exc.filename)]
    return fields


def rebuild_error(fields: dict[str, Any]) -> Exception:
    """The exception that :func:`describe_error` saw, or the nearest that the parent knows.

    An exception of a framework becomes the built-in that it derives from: the parent must not import the
    framework to learn about it.
    """
    text = fields["text"]
    for position, name in enumerate(fields["classes"]):
        known = _OWN_ERRORS.get(name) or getattr(builtins, name, None)
        if not (isinstance(known, type) and issubclass(known, Exception)):
            continue
        if known is Exception:
            break
        if issubclass(known, OSError) and "os" in fields:
            errno, strerror, filename = fields["os"]
            return known(errno, strerror, filename) if filename is not None else known(errno, strerror)
        try:
            return known(text if position == 0 else f"{fields['classes'][0]}: {text}")
        except TypeError:  # needs more than a text, like UnicodeDecodeError
            continue
    return RuntimeError(f"{fields['classes'][0]}: {text}")
