"""Reads the model of any engine, and converts it to one of another engine, with all its numbers unchanged."""

from __future__ import annotations

from pathlib import Path

from .base import Engine, ModelFileError, ModelState
from .registry import get_engine, guess_engine


def read_model(path: Path) -> ModelState:
    """The model in ``path``, whichever engine wrote it; imports no framework.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is not a model, or its engine does not offer it to others.
    """
    return guess_engine(path).read_state(path)


def convert(source: Path, target: Path, backend: str) -> Engine:
    """Write the model in ``source`` to ``target`` as a model of the engine ``backend``, which is returned.

    Raises
    ------
    FileNotFoundError, ModelFileError
        As :func:`read_model`, or if that engine has no such model; the message names both engines.
    ValueError
        If there is no engine of that name.
    EngineUnavailableError
        If its framework is needed and not installed.
    """
    engine = get_engine(backend)
    engine.write_state(read_model(source), target)
    return engine


def not_convertible(
    state: ModelState, backend: str, reason: object, path: Path | None = None
) -> ModelFileError:
    """The error for a model that another engine cannot represent, or that is damaged."""
    named = "The model" if path is None else f'"{path}"'
    reason = str(reason)[:300]  # it may name whatever the file names
    if state.description.engine == backend:
        return ModelFileError(
            f"{named} does not fit its own description: {reason}. Train again or choose another model."
        )
    return ModelFileError(
        f"{named} was written by the engine {state.description.engine!r} and cannot be converted for "
        f"{backend!r}: {reason}. Train again or choose another model."
    )
