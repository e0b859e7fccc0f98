"""What the sections of the panel have in common."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Mapping

from ptychodus.api.observer import Observable, Observer
from PyQt5.QtCore import QEvent, QObject, Qt, pyqtSignal
from PyQt5.QtGui import QPainter, QPaintEvent
from PyQt5.QtWidgets import QFormLayout, QLabel, QSizePolicy, QWidget


def tool_tip(*paragraphs: str) -> str:
    """Text that Qt breaks into lines: it does so with rich text only."""
    return "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs if paragraph)


class Relay(QObject):
    """Calls back in the window's thread, whatever thread a change is made in."""

    _changed = pyqtSignal()

    def __init__(self, react: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._react = react
        self._changed.connect(self._call)

    def watch(self, *observables: Observable) -> None:
        """Call back when one of them changes."""
        for observable in observables:
            observable.add_observer(_Emitter(self))

    def emit(self) -> None:
        """Call back soon; to be called in any thread."""
        self._changed.emit()

    def _call(self) -> None:  # a method of this object, so that Qt knows the thread
        self._react()


class _Emitter(Observer):
    # apart from the relay: a class of Qt and an abstract one have no common metaclass

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def _update(self, observable: Observable) -> None:
        with contextlib.suppress(RuntimeError):  # the window is gone, what it watched is not
            self._relay.emit()


class WheelGuard(QObject):
    """Leaves the wheel to the page: scrolling past a box must not change what is in it."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        is_wheel = event is not None and event.type() == QEvent.Type.Wheel
        if event is None or not is_wheel or not isinstance(watched, QWidget) or watched.hasFocus():
            return False
        event.ignore()
        return True

    def guard(self, widget: QWidget) -> None:
        """Have the wheel change ``widget`` only once it has been clicked."""
        widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        widget.installEventFilter(self)


class InfoLabel(QLabel):
    """One line that never widens the panel: what does not fit is in the tool tip."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def show_text(self, text: str, tip: str = "") -> None:
        """Show ``text``, with ``tip`` (``text`` itself by default) as its tool tip."""
        self.setText(text)
        self.setToolTip(tool_tip(tip or text))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        metrics, area = self.fontMetrics(), self.contentsRect()
        if metrics.horizontalAdvance(self.text()) <= area.width():
            super().paintEvent(event)
            return
        painter = QPainter(self)
        shown = metrics.elidedText(self.text(), Qt.TextElideMode.ElideMiddle, area.width())
        painter.drawText(area, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), shown)


class Form(QFormLayout):
    """Labelled fields, some of them hidden; Qt's own form keeps the space of a hidden row."""

    def __init__(self) -> None:
        super().__init__()
        self.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self._rows: dict[QWidget, QLabel | None] = {}
        self._hidden: set[QWidget] = set()

    def add(self, text: str, field: QWidget) -> QLabel:
        """Add a row; returns its label."""
        label = QLabel(text)
        self._rows[field] = label
        self.addRow(label, field)
        return label

    def add_wide(self, field: QWidget) -> None:
        """Add a row without a label, as wide as the form."""
        self._rows[field] = None
        self.addRow(field)

    def labels(self) -> list[QLabel]:
        """Of all rows, the hidden ones too."""
        return [label for label in self._rows.values() if label is not None]

    def show_rows(self, visible: Mapping[QWidget, bool]) -> None:
        """Show or hide fields with their labels."""
        hidden = {field for field in self._rows if not visible.get(field, field not in self._hidden)}
        if hidden == self._hidden:
            return
        self._hidden = hidden
        while self.rowCount():
            self.takeRow(0)
        for field, label in self._rows.items():
            if field not in hidden:
                if label is None:
                    self.addRow(field)
                else:
                    self.addRow(label, field)
            field.setVisible(field not in hidden)
            if label is not None:
                label.setVisible(field not in hidden)


def align(*forms: Form) -> None:
    """Give the labels of several forms one width, so that their fields stand below each other."""
    labels = [label for form in forms for label in form.labels()]
    width = max((label.sizeHint().width() for label in labels), default=0)
    for label in labels:
        label.setMinimumWidth(width)
