"""The model that was opened last, kept where a process serves several runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from ..files import identity

_T = TypeVar("_T")


class KeptModel:
    """One opened model, with whatever its framework has compiled for it; none, unless it is asked for."""

    def __init__(self) -> None:
        self._is_on = False
        self._key: Hashable = None
        self._model: Any = None

    def keep(self) -> None:
        """From now on, keep the model that was opened last."""
        self._is_on = True

    def opened(
        self, path: Path, of: Hashable, open_model: Callable[[], _T], keeps: Callable[[_T], bool]
    ) -> _T:
        """The model at ``path``: the one that is kept, or what ``open_model`` returns.

        Parameters
        ----------
        of
            What the model depends on beside its file, such as its engine and its device.
        keeps
            Whether this model may be used again: not one that was made for a scan.
        """
        if not self._is_on:
            return open_model()
        key = (path, identity(path), of)
        if key == self._key:
            kept: _T = self._model
            return kept
        self._key = self._model = None  # first: two would take the memory of two
        model = open_model()
        if keeps(model):
            self._key, self._model = key, model
        return model


kept_model = KeptModel()
"""That of this process."""
