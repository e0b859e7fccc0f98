"""Which engine the settings stand for: that which trains, that which converts, that which names files."""

from __future__ import annotations

import logging

from ..backends import INSTALL_HINT
from ..backends.base import Engine
from ..backends.framework import EngineUnavailableError
from ..backends.registry import get_engine, list_engines, loadable_engines
from ..config import backend_names
from ..ptychodus_io.names import LIBRARY
from ..settings_table import AUTO, SETTINGS
from .settings import PluginSettings

logger = logging.getLogger(LIBRARY)

_BACKEND = "Model.Backend"
BACKEND_SETTING = SETTINGS[_BACKEND].full_name


def select_engine(settings: PluginSettings) -> Engine:
    """The engine that is set, its framework installed.

    Raises
    ------
    ValueError
        If ``Backend`` is no engine's name.
    EngineUnavailableError
        If its engine or its framework (for ``auto``: every framework) is not installed. An engine that is
        named is never replaced by another.
    """
    backend = settings.value(_BACKEND)
    if backend != AUTO:
        names = backend_names()
        if backend not in names:
            allowed = ", ".join(map(repr, (AUTO, *names)))
            raise ValueError(
                f"The setting {BACKEND_SETTING} = {backend!r} is not valid: use one of {allowed}."
            )
        engine = _registered_engine(backend)
        engine.require()
        return engine
    engines, broken = _engines()
    for reason in broken:
        logger.warning("%s", reason)
    for engine in engines:
        if engine.problem() is None:
            logger.info('Backend "auto": %s is used.', engine.title)
            return engine
    hints = " or ".join(dict.fromkeys(engine.install_hint for engine in engines)) or INSTALL_HINT
    raise EngineUnavailableError(
        " ".join(
            [
                f"No framework is installed that could run this reconstructor ({BACKEND_SETTING} = auto). "
                f"Install one: {hints}",
                *broken,
            ]
        )
    )


def _engines() -> tuple[list[Engine], list[str]]:
    """All engines in the order in which ``auto`` tries them, and why others could not be loaded."""
    broken: list[RuntimeError] = []
    names = [name for name in backend_names() if name in list_engines()]
    return list(loadable_engines(names, broken.append)), [str(error) for error in broken]


def _registered_engine(name: str) -> Engine:
    if name not in list_engines():
        others = ", ".join(map(repr, list_engines())) or "none"
        raise EngineUnavailableError(
            f"{BACKEND_SETTING} = {name!r} is selected, but that engine is not part of this installation "
            f"(there is: {others}). Mend it with: pip install --force-reinstall --no-deps "
            f"ptychopinn-ptychodus; or set {BACKEND_SETTING} to auto."
        )
    return get_engine(name)


def preferred_backend(settings: PluginSettings) -> str | None:
    """The engine that is to open a model whose own framework is missing: that which is set, else as ``auto``.

    None if there is none; never raises: the model file decides, so that a wrong setting is no error here.
    """
    try:
        backend = settings.value(_BACKEND)
        engines = [engine for engine in _engines()[0] if engine.problem() is None]
        engines.sort(key=lambda engine: engine.name != backend)
        return engines[0].name if engines else None
    except Exception as exc:
        logger.debug("No engine is preferred: %s", exc)
        return None


def model_file_type(settings: PluginSettings) -> tuple[str, str]:
    """Extension and file-dialog filter of the selected engine's models; never raises.

    The application cannot survive an exception here, and it asks before anything has been selected. Where
    nothing useful is selected, they are those of the engine that ``auto`` would take.
    """
    try:
        backend = settings.value(_BACKEND)
        engines, _ = _engines()
        # stable: where no framework is installed, the order of ``auto`` stays
        engines.sort(key=lambda engine: (engine.name != backend, engine.problem() is not None))
        return engines[0].model_suffix, engines[0].model_filter
    except Exception as exc:
        logger.debug("No engine says what its models are called: %s", exc)
        return ".ckpt", "PtychoPINN Models (*.ckpt)"
