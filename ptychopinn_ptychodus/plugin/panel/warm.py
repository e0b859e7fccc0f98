"""The line that says that a process waits for the next run, and ends it."""

from __future__ import annotations

from PyQt5.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ..warm import WarmRuns
from .widgets import Form, InfoLabel, Relay, tool_tip


class WarmRow(QWidget):
    """A row of a form; hidden while no process waits."""

    def __init__(self, warm: WarmRuns, form: Form) -> None:
        super().__init__()
        self._warm = warm
        self._form = form
        self.text = InfoLabel()
        self.release_button = QPushButton("Release")
        self.release_button.setToolTip(
            tool_tip("End the process that waits for the next run: its memory, and its GPU, are free then.")
        )
        layout = QHBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text, 1)
        layout.addWidget(self.release_button)
        self.setLayout(layout)
        form.add("Worker:", self)
        self.release_button.clicked.connect(warm.release)
        Relay(self.refresh, self).watch(warm)
        self.refresh()

    def refresh(self) -> None:
        """Show what waits now."""
        says = self._warm.says
        tip = "The next run begins to compute at once. The process ends by itself, see Keep Warm."
        self.text.show_text(says, f"{says}. {tip}")
        self._form.show_rows({self: bool(says)})
