"""The reconstructor library that Ptychodus finds by entry point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ptychodus.api.reconstruct import ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry

from ..ptychodus_io.names import LIBRARY
from .base import PluginReconstructor
from .live import LiveRuns
from .reconstructor import PtychoPINNReconstructor
from .refiner import RefinementReconstructor
from .settings import PluginSettings
from .warm import WarmRuns


class PtychoPINNPluginLibrary(ReconstructorLibrary):
    """``PINN``, ``Supervised`` and ``Refinement``, with one set of settings between them.

    All are always offered, whether a framework is installed or not: an algorithm that a settings file names
    and that is not there would make Ptychodus fall back to another one without a word.
    """

    def __init__(self, settings_registry: SettingsRegistry, is_developer_mode_enabled: bool) -> None:
        super().__init__(LIBRARY)
        self.settings = PluginSettings(settings_registry)
        self.warm = WarmRuns(self.settings)
        self.live = LiveRuns(self.settings)
        shared = (self.settings, self.get_logger(), self.warm, self.live)
        self._reconstructors: list[PluginReconstructor] = [
            PtychoPINNReconstructor("PINN", "pinn", *shared),
            PtychoPINNReconstructor("Supervised", "supervised", *shared),
            RefinementReconstructor(*shared),
        ]

    @property
    def name(self) -> str:
        return LIBRARY

    @property
    def settings_groups(self) -> list[str]:
        """Sections of the settings file that are this library's."""
        return [group.name for group in self.settings.groups]

    def __iter__(self) -> Iterator[Any]:  # of two kinds, and those who ask for one by name know which
        return iter(self._reconstructors)

    def close(self) -> None:
        """Have whatever still runs keep its best state and end; nothing can be started afterwards."""
        for reconstructor in self._reconstructors:
            reconstructor.close()
        self.live.close()
        self.warm.close()
