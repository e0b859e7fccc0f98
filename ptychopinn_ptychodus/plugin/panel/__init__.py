"""The settings panel in the Ptychodus window; imported by the window only.

Parameters are shown by Ptychodus' own widgets, so that what is edited here, opened from a settings file or
set by a script is one thing. No framework is imported: accelerators are asked for in a process of their own.

Qt ends the application when Python code that it calls raises. Whatever is called by it here must not.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ptychodus.controller.processing import ReconstructorViewControllerFactory
from PyQt5.QtGui import QShowEvent
from PyQt5.QtWidgets import QLabel, QVBoxLayout, QWidget

from ...ptychodus_io.names import LIBRARY
from ..base import PluginReconstructor
from ..library import PtychoPINNPluginLibrary

if TYPE_CHECKING:
    from .engines import EngineStates
    from .page import SettingsPage

logger = logging.getLogger(LIBRARY)


class PtychoPINNPluginViewControllerFactory(ReconstructorViewControllerFactory):
    """Makes the page of each reconstructor; found by entry point."""

    def __init__(self, library: PtychoPINNPluginLibrary, file_dialog_factory: Any) -> None:
        super().__init__()
        self._library = library
        library.warm.stay()  # in a window, one run follows the other
        self._file_dialog_factory = file_dialog_factory
        self._engine_states: EngineStates | None = None

    @property
    def name(self) -> str:
        return LIBRARY

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        wanted = reconstructor_name.casefold()  # Ptychodus hands it over in lower case
        for reconstructor in self._library:
            if reconstructor.name.casefold() == wanted:
                return Page(self, reconstructor)
        raise ValueError(f"{LIBRARY} has no reconstructor {reconstructor_name!r}.")

    def build(self, reconstructor: PluginReconstructor) -> SettingsPage:
        """What is on the page of a reconstructor."""
        from .engines import EngineStates
        from .page import SettingsPage

        settings = self._library.settings
        if self._engine_states is None:
            self._engine_states = EngineStates(settings)
        return SettingsPage(settings, reconstructor, self._engine_states, self._file_dialog_factory)


class Page(QWidget):
    """Settings of one reconstructor, built when they are first looked at: most sessions start elsewhere."""

    def __init__(
        self, factory: PtychoPINNPluginViewControllerFactory, reconstructor: PluginReconstructor
    ) -> None:
        super().__init__()
        self._factory = factory
        self._reconstructor = reconstructor
        self.settings_page: SettingsPage | None = None
        """None until it has been looked at."""
        self._is_built = False

    def showEvent(self, event: QShowEvent | None) -> None:
        if not self._is_built:
            self._is_built = True
            self._build()
        super().showEvent(event)

    def _build(self) -> None:
        layout = QVBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        try:
            self.settings_page = self._factory.build(self._reconstructor)
            layout.addWidget(self.settings_page)
        except Exception as exc:
            logger.exception("The settings panel failed.")
            label = QLabel(f"The settings panel failed:\n\n{type(exc).__name__}: {exc}")
            label.setWordWrap(True)
            layout.addWidget(label)
        self.setLayout(layout)
