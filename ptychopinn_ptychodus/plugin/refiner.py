"""``Refinement``: an object without a model, by the refinement alone that follows a network elsewhere.

As :mod:`.reconstructor`, this runs in the application's process: no framework, no Qt, no pyplot. The children
that it starts need no framework either, and import PyTorch where it is installed for its GPU alone.
"""

from __future__ import annotations

import logging
from collections.abc import Generator

from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput

from ..ptychodus_io.names import REFINEMENT
from ..settings_table import WITHOUT_MODEL
from .base import PluginReconstructor
from .live import LiveRuns
from .reconstruction import RefinementRun
from .settings import PluginSettings
from .warm import WarmRuns


class RefinementReconstructor(PluginReconstructor):
    """Object, probe and positions fitted to the scan, from a flat object or the one that is given.

    Its parameters are those of :class:`.PluginReconstructor`.
    """

    def __init__(
        self, settings: PluginSettings, logger: logging.Logger, warm: WarmRuns, live: LiveRuns
    ) -> None:
        super().__init__(REFINEMENT, WITHOUT_MODEL, settings, logger, warm, live)

    def reconstruct(self, parameters: ReconstructInput) -> Generator[ReconstructOutput, None, None]:
        with self._reporting("Reconstruction failed"):
            self._say_effort()
            run = RefinementRun(self._settings, self._shown, self._task, self._logger, self.warm.worker)
            yield from run.outputs(parameters)
