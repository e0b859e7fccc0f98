"""The box that shows the object while it is learnt."""

from __future__ import annotations

from PyQt5.QtCore import QSize, Qt
from PyQt5.QtGui import QPainter, QPaintEvent, QPixmap
from PyQt5.QtWidgets import QGroupBox, QSizePolicy, QVBoxLayout, QWidget

from ...files import identity
from ..base import PluginReconstructor
from .widgets import InfoLabel, Relay, tool_tip


class Picture(QWidget):
    """A picture that is as wide as there is room, and no wider."""

    def __init__(self) -> None:
        super().__init__()
        self._pixmap = QPixmap()
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def show_pixmap(self, pixmap: QPixmap) -> None:
        self._pixmap = pixmap
        self.updateGeometry()
        self.update()

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        size = self._pixmap.size()
        # of a tall scan no more than a square: the settings are below
        return min(width, round(width * size.height() / size.width())) if size.width() else 0

    def sizeHint(self) -> QSize:
        return QSize(self.width(), self.heightForWidth(self.width()))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        if self._pixmap.isNull():
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        size = self._pixmap.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        painter.drawPixmap(0, 0, size.width(), size.height(), self._pixmap)


class PreviewBox(QGroupBox):
    """Amplitude and phase of the newest training's object so far; hidden until there is one."""

    def __init__(self, reconstructor: PluginReconstructor) -> None:
        super().__init__("Preview")
        self._reconstructor = reconstructor
        self._shown: tuple[int, ...] = ()
        self._caption = InfoLabel()
        self._picture = Picture()
        layout = QVBoxLayout()
        layout.addWidget(self._caption)
        layout.addWidget(self._picture)
        self.setLayout(layout)
        Relay(self.refresh, self).watch(reconstructor)
        self.refresh()

    def refresh(self) -> None:
        """Look for a newer picture."""
        preview = self._reconstructor.preview
        current = () if preview is None else identity(preview.path)
        self.setVisible(preview is not None and bool(current))
        if preview is None or current in ((), self._shown):
            return
        self._shown = current
        self._picture.show_pixmap(QPixmap(str(preview.path)))
        self._caption.show_text(f"Amplitude and phase after epoch {preview.epoch}", str(preview.path))
        self._picture.setToolTip(
            tool_tip(
                "The object as the network sees it now, stitched from a part of the groups. Grey from the "
                "1st to the 99th percentile.",
                str(preview.path),
            )
        )
