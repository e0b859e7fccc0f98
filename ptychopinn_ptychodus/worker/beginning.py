"""Where a training begins, as a job asks for it: from files to objects."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..backends.base import Beginning, Engine
from ..backends.conversion import read_model
from ..backends.training_state import read_state, state_path
from ..ptychodus_io.names import LIBRARY

logger = logging.getLogger(LIBRARY)


def read_beginning(
    engine: Engine, model_path: Path, *, start_model: Path | None = None, resume: bool = False
) -> Beginning | None:
    """What a training that leaves its model at ``model_path`` begins with.

    It is None for an engine that always begins with fresh networks.

    Raises
    ------
    FileNotFoundError
        If there is no such model; or if there is no interrupted training to go on with, but a model in its
        place: that one is complete.
    ModelFileError
        If a file is damaged or foreign.
    ValueError
        If the engine does not take what is asked for.
    """
    if not engine.takes_beginning:
        if start_model is not None or resume:
            raise ValueError(
                f"The engine {engine.name!r} begins with fresh networks only, and cannot go on with a "
                "training. Train without a model to start from, or with another engine."
            )
        return None
    kept = state_path(model_path)
    if resume:
        if kept.is_file():
            return Beginning(state=read_state(kept), kept=kept)
        if model_path.exists():
            raise FileNotFoundError(
                f'There is no interrupted training to go on with: "{kept}" is missing, and "{model_path}" is '
                "a model that is complete, or of a training that was interrupted in its first epoch. Train "
                "without resuming; to train that model further, start from it."
            )
        logger.warning(
            'There is no interrupted training to go on with ("%s" is missing): this one begins anew.', kept
        )
    return Beginning(model=None if start_model is None else read_model(start_model), kept=kept)


def history_of(beginning: Beginning | None) -> Mapping[str, list[float]] | None:
    """Losses by name of the epochs that were learnt before an interruption; None if it begins here."""
    return None if beginning is None or beginning.state is None else beginning.state.history


def for_engine(beginning: Beginning | None) -> dict[str, Any]:
    """What :meth:`.Engine.train` is given of it: nothing where the engine knows of no beginnings."""
    return {} if beginning is None else {"beginning": beginning}
