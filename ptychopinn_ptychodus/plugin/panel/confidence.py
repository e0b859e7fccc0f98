"""The box that shows how far the newest result is to be believed."""

from __future__ import annotations

from PyQt5.QtGui import QPixmap
from PyQt5.QtWidgets import QGroupBox, QVBoxLayout

from ..base import PluginReconstructor
from ..shown import ConfidenceFiles
from .preview import Picture
from .widgets import Relay, tool_tip


class ConfidenceBox(QGroupBox):
    """Map of confidence, expected error and rings of the newest result; hidden while there is none."""

    def __init__(self, reconstructor: PluginReconstructor) -> None:
        super().__init__("Confidence")
        self._reconstructor = reconstructor
        self._shown: ConfidenceFiles | None = None
        self._picture = Picture()
        self._picture.setToolTip(
            tool_tip(
                "How far each pixel of the object is to be believed, from 0 (dark) to 1: what halves of the "
                "scan bring back alike. Beside it the error that is expected, and the correlation of the "
                "halves ring by ring: where it falls below half a bit, the resolution ends."
            )
        )
        layout = QVBoxLayout()
        layout.addWidget(self._picture)
        self.setLayout(layout)
        Relay(self.refresh, self).watch(reconstructor)
        self.refresh()

    def refresh(self) -> None:
        """Show what the reconstructor knows now."""
        confidence = self._reconstructor.confidence
        self.setVisible(confidence is not None)
        if confidence is None or confidence is self._shown:
            return
        self._shown = confidence
        pixmap = QPixmap()
        pixmap.loadFromData(confidence.picture)
        self._picture.show_pixmap(pixmap)
