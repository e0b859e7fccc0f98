"""Engines by name, found through the entry-point group ``ptychopinn_ptychodus.backends``."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..config import BACKEND_GROUP, backend_names
from ..installed import EntryPoint, entry_points
from ..ptychodus_io.names import MODEL_BASENAME
from . import INSTALL_HINT
from .base import Engine, ModelFileError
from .framework import EngineUnavailableError
from .model_file import require_model_file

logger = logging.getLogger(__name__)

REQUIRED_TEXTS = ("name", "title", "model_suffix", "model_filter", "install_hint")
"""Attributes without a default that every class of an engine sets."""


@functools.cache
def list_engines() -> dict[str, EntryPoint]:
    """Names of the installed engines and where they come from; loads none of them."""
    found: dict[str, EntryPoint] = {}
    for ep in sorted(entry_points(group=BACKEND_GROUP), key=lambda ep: ep.name):
        if ep.name in found and found[ep.name].value != ep.value:
            logger.warning(
                "Two installed packages offer the engine %r: %s is used, not %s. Uninstall one of them.",
                ep.name,
                ep.value,
                found[ep.name].value,
            )
        found[ep.name] = ep
    return found


@functools.cache
def get_engine(name: str) -> Engine:
    """The engine called ``name``; its framework is not imported.

    Raises
    ------
    ValueError
        If there is no such engine; the message lists those that exist.
    RuntimeError
        If the engine itself cannot be loaded, or its class lacks what every engine has; the message names
        the engine, and what to write.
    """
    engines = list_engines()
    if name not in engines:
        installed = ", ".join(map(repr, engines)) or "none"
        raise ValueError(f"Unknown engine {name!r}. Installed engines: {installed}.")
    try:
        engine = engines[name].load()()
    except Exception as exc:
        raise RuntimeError(f"Engine {name!r} ({engines[name].value}) could not be loaded: {exc}") from exc
    if not isinstance(engine, Engine):
        raise RuntimeError(f"Engine {name!r} ({engines[name].value}) is not an Engine.")
    missing = [key for key in REQUIRED_TEXTS if not isinstance(getattr(engine, key, None), str)]
    if missing:
        lines = ", ".join(f'{key} = "…"' for key in missing)
        raise RuntimeError(
            f"Engine {name!r} ({engines[name].value}) is not complete: write {lines} into its class; "
            "what each of them is, Engine in ptychopinn_ptychodus/backends/base.py says."
        )
    if engine.name != name:
        raise RuntimeError(
            f"Engine {name!r} ({engines[name].value}) calls itself {engine.name!r}: write the same name into "
            "its class and on the left of its entry point."
        )
    return engine


def _warn(error: RuntimeError) -> None:
    logger.warning("%s", error)


def loadable_engines(
    names: Iterable[str] | None = None, on_broken: Callable[[RuntimeError], object] = _warn
) -> Iterator[Engine]:
    """The engines of these names (by default, all) but for those that cannot be loaded.

    One must not hide the others: ``on_broken`` is told of it, by default a log entry.
    """
    for name in list_engines() if names is None else names:
        try:
            engine = get_engine(name)
        except RuntimeError as exc:
            on_broken(exc)
        else:
            yield engine


def available_engine() -> Engine:
    """The first engine whose framework is installed, this package's engines before those of others.

    Raises
    ------
    EngineUnavailableError
        If there is none; the message says how to install one.
    """
    installed = list_engines()
    for engine in loadable_engines(name for name in backend_names() if name in installed):
        if engine.problem() is None:
            return engine
    raise EngineUnavailableError(f"No framework is installed that could be trained with: {INSTALL_HINT}")


def _recognising(path: Path, engines: Iterable[Engine]) -> Engine | None:
    for engine in engines:
        try:
            if engine.recognises(path):
                return engine
        except Exception as exc:  # somebody else's code must not hide the other engines
            logger.warning("The engine %r could not look at %s: %r", engine.name, path, exc)
    return None


def find_model(path: Path) -> Path:
    """The model file ``path``, or the one in the directory ``path``, of whichever engine.

    In a directory, it is the file under a name that trainings give it: ``model`` with an engine's suffix, or
    the suffix alone, without its dot. Where there is none, it is the one that ends in such a suffix and that
    its engine recognises.

    Raises
    ------
    FileNotFoundError
        If the directory has none.
    ValueError
        If it has several of these; the message lists them.
    """
    if not path.is_dir():
        return path
    engines = list(loadable_engines())
    suffixes = tuple(sorted({engine.model_suffix for engine in engines}))
    usual, others = _model_files(path, suffixes)
    # by name alone: if it is damaged, another file must not quietly take its place
    found = usual or [file for file in others if _recognising(file, engines) is not None]
    # one that nobody recognises is still the one that is meant if it is the only one: opening it says why not
    found = found or others
    if not found:
        ends = " or ".join(f'"{suffix}"' for suffix in suffixes)
        raise FileNotFoundError(
            f'There is no model file in "{path}": the names of those of the installed engines end in {ends}. '
            "Train a model, or give the path of its file."
        )
    return _only(found, path)


def find_model_of_run(path: Path, file_name: str) -> Path:
    """The model file ``path``, or the one that a training has left in the directory ``path``.

    This is :func:`find_model` for the engines' functions for scripts, which differ in two points. A script
    has chosen the engine, so that ``file_name``, the name under which that engine leaves its models, goes
    before all others. And only the names that trainings give are looked for: a file of any other name, such
    as a checkpoint among others of its directory, is not what a run has left as its model. Where there is
    none, this is the path where the engine would have left it, for the message of whoever opens it.

    Raises
    ------
    ValueError
        If there is none called ``file_name``, but several others; the message lists them.
    """
    own = path / file_name
    if not path.is_dir():
        return path
    if own.is_file():
        return own
    usual, _ = _model_files(path, tuple({engine.model_suffix for engine in loadable_engines()}))
    return _only(usual or [own], path)


def _model_files(directory: Path, suffixes: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """The files in a directory under the names that trainings give, and others that end in a suffix."""
    files = sorted(
        file for file in directory.iterdir() if f".{file.name}".endswith(suffixes) and file.is_file()
    )
    usual = [file for file in files if f".{file.name}".removeprefix(f".{MODEL_BASENAME}") in suffixes]
    return usual, [file for file in files if file not in usual]


def _only(found: list[Path], directory: Path) -> Path:
    if len(found) > 1:
        listed = ", ".join(f'"{file.name}"' for file in found)
        raise ValueError(
            f'There are several model files in "{directory}": {listed}. Give the path of one of them.'
        )
    return found[0]


def guess_engine(model_path: Path) -> Engine:
    """The engine whose models look like the content of ``model_path``, whatever the file is called.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If no engine recognises it.
    """
    require_model_file(model_path)
    engine = _recognising(model_path, loadable_engines())
    if engine is not None:
        return engine
    tried = ", ".join(list_engines()) or "no engine"
    raise ModelFileError(
        f'"{model_path}" is not a model of this package, or it is damaged (tried: {tried}). '
        "Choose a model file that was written by its training, or train again."
    )


def engine_for(model_path: Path, preferred: str | None = None) -> Engine:
    """The engine to open ``model_path`` with, its framework installed.

    That is the one that wrote it. Where its framework is missing and it hands over its models
    (:meth:`.Engine.read_state`), it is another one that takes over models (:meth:`.Engine.write_state`),
    ``preferred`` first.

    Raises
    ------
    FileNotFoundError, ModelFileError
        As :func:`guess_engine`.
    EngineUnavailableError
        If no framework is installed that could open it; the message says how to install the writer's.
    """
    writer = guess_engine(model_path)
    problem = writer.problem()
    if problem is None:
        return writer
    if type(writer).read_state is Engine.read_state:  # only its own framework opens its models
        raise EngineUnavailableError(problem)
    for engine in loadable_engines(sorted(list_engines(), key=lambda name: (name != preferred, name))):
        converts = type(engine).write_state is not Engine.write_state
        if converts and engine.problem() is None:
            return engine
    raise EngineUnavailableError(problem)
