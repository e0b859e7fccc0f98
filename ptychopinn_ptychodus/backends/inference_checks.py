"""Whether the model that is opened is the one that an inference's configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import InferenceConfig, ModelConfig, to_dict
from .base import ModelDescription, ModelFileError


def require_as_asked(
    config: InferenceConfig, description: ModelDescription, path: Path, engine: str, *, any_size: bool = False
) -> None:
    """Raise unless the model in ``path`` is the one, and ``engine`` the backend, that ``config`` asks for.

    What ``config`` has at its default it does not ask for: the model file says how its model is made, and
    whoever calls an engine's own function has named the engine. With ``any_size``, N is not compared: a model
    for any probe is applied to patterns of any N.

    Raises
    ------
    ModelFileError
        If ``config.model`` is set, and differs from the model of the file in N or gridsize, or in another
        field that is set; the message names the field.
    ValueError
        If ``config.backend`` is set to another engine.
    """
    if config.backend not in (engine, InferenceConfig.backend):
        raise ValueError(
            f"InferenceConfig.backend = {config.backend!r}, but a function of the engine {engine!r} is "
            "called: leave backend at its default, or call that engine's function or the dispatcher."
        )
    asked, there, unset = to_dict(config.model), to_dict(description.model), to_dict(ModelConfig())
    if asked == unset:
        return
    for name, value in asked.items():
        says_something = name in ("N", "gridsize") or value != unset[name]
        if says_something and value != there[name] and not (any_size and name == "N"):
            raise ModelFileError(
                f'"{path}" was trained for N = {there["N"]}, gridsize = {there["gridsize"]}, with {name} = '
                f"{there[name]!r}, but InferenceConfig.model.{name} = {value!r} is asked for. Leave model at "
                "its default to take it from the file, use data of that kind, or train another model."
            )


def require_untouched(config: InferenceConfig, names: Sequence[str], where: str) -> None:
    """Raise ``ValueError`` if one of the fields ``names``, which have no meaning in ``where``, is set."""
    unset = InferenceConfig()
    for name in names:
        if getattr(config, name) != getattr(unset, name):
            raise ValueError(
                f"InferenceConfig.{name} = {getattr(config, name)!r} is not supported {where}: leave it at "
                f"its default, {getattr(unset, name)!r}."
            )
