"""The box that says what the examination of the newest run's scan, and of its result, has found."""

from __future__ import annotations

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QGroupBox, QLabel, QSizePolicy, QVBoxLayout

from ..base import PluginReconstructor
from .widgets import Relay, tool_tip

_SHOWN = 6
"""Findings with a line of their own; the log and the product's comments have all of them."""


class FindingsBox(QGroupBox):
    """Findings of the newest run, warnings first; hidden while there are none."""

    def __init__(self, reconstructor: PluginReconstructor) -> None:
        super().__init__("Examination of the Scan")
        self._reconstructor = reconstructor
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # a page is as wide as its widest line: this one takes the width that there is
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        layout = QVBoxLayout()
        layout.addWidget(self.text)
        self.setLayout(layout)
        Relay(self.refresh, self).watch(reconstructor)
        self.refresh()

    def refresh(self) -> None:
        """Show what the reconstructor knows now."""
        report = self._reconstructor.findings
        findings = sorted(report.findings, key=lambda finding: not finding.is_warning)
        lines = [
            f"{'⚠' if finding.is_warning else '•'} {finding.action.heading}: {finding.text}"
            for finding in findings
        ]
        shown = lines[:_SHOWN]
        if len(lines) > _SHOWN:
            shown.append(f"… and {len(lines) - _SHOWN} more, in the log.")
        self.text.setText("\n".join(shown))
        self.text.setToolTip(tool_tip(*lines))
        self.setVisible(bool(lines))
