"""The page of one reconstructor: its sections, and which rows of them apply."""

from __future__ import annotations

import importlib
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import (
    BooleanParameter,
    IntegerParameter,
    RealParameter,
    StringParameter,
)
from PyQt5.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QGroupBox,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...settings_table import EFFORT, SECTIONS, Setting
from ..base import PluginReconstructor
from ..reconstructor import PtychoPINNReconstructor
from ..settings import PluginSettings
from .confidence import ConfidenceBox
from .engines import EngineRows, EngineStates
from .findings import FindingsBox
from .live import LiveBox
from .model import ModelBox
from .preview import PreviewBox
from .warm import WarmRow
from .widgets import Form, InfoLabel, Relay, WheelGuard, align, tool_tip

try:
    controllers: Any = importlib.import_module("ptychodus.controller.parameters")
except ModuleNotFoundError:  # Ptychodus 1.5
    controllers = importlib.import_module("ptychodus.controller.parametric")


class Row:
    """A setting in a form, in Ptychodus' own widget."""

    def __init__(self, setting: Setting, settings: PluginSettings, form: Form) -> None:
        self.setting = setting
        self.parameter: Any = settings[setting.path]
        tip = tool_tip(setting.tip, setting.full_name)
        self._controller, self.widget = _controller(setting, self.parameter, tip)
        form.add(f"{setting.label}:", self.widget).setToolTip(tip)


class _Unlisted(Observer):
    """Shows a text that is none of the choices: Ptychodus' combo box would show another one in its place."""

    def __init__(self, parameter: StringParameter, widget: QComboBox) -> None:
        super().__init__()
        self._parameter = parameter
        self._widget = widget
        self._show()
        parameter.add_observer(self)

    def _show(self) -> None:
        value = self._parameter.get_value()
        if self._widget.findText(value) < 0:
            self._widget.addItem(value)
        self._widget.setCurrentText(value)

    def _update(self, observable: Observable) -> None:
        self._show()


def _controller(setting: Setting, parameter: Any, tip: str) -> tuple[Any, QWidget]:
    if isinstance(parameter, StringParameter):
        combo = controllers.ComboBoxParameterViewController(parameter, setting.choices(), tool_tip=tip)
        return (combo, _Unlisted(parameter, combo.get_widget())), combo.get_widget()
    if isinstance(parameter, BooleanParameter):
        controller: Any = controllers.CheckBoxParameterViewController(parameter, "", tool_tip=tip)
    elif isinstance(parameter, RealParameter):
        controller = controllers.DecimalLineEditParameterViewController(parameter, tool_tip=tip)
    else:
        assert isinstance(parameter, IntegerParameter)
        controller = controllers.SpinBoxParameterViewController(parameter, tool_tip=tip)
    widget: QWidget = controller.get_widget()
    if setting.zero and isinstance(widget, QSpinBox):
        widget.setSpecialValueText(setting.zero)
    return controller, widget


class SettingsPage(QWidget):
    """All sections of one reconstructor."""

    def __init__(
        self,
        settings: PluginSettings,
        reconstructor: PluginReconstructor,
        engine_states: EngineStates,
        file_dialog_factory: Any,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._model_type = reconstructor.model_type
        self._engine_states = engine_states
        self.rows: list[Row] = []
        self._forms: list[Form] = []
        self._model_box: ModelBox | None = None
        if isinstance(reconstructor, PtychoPINNReconstructor):
            self._model_box = ModelBox(reconstructor, file_dialog_factory)
        self.preview_box = PreviewBox(reconstructor)
        self.live_box = LiveBox(reconstructor, file_dialog_factory)
        self.findings_box = FindingsBox(reconstructor)
        self.confidence_box = ConfidenceBox(reconstructor)

        layout = QVBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        if self._model_box is not None:
            layout.addWidget(self._model_box)
        layout.addWidget(self.live_box)
        layout.addWidget(self.findings_box)
        layout.addWidget(self.confidence_box)
        layout.addWidget(self.preview_box)
        *sections, (folded_title, folded) = self._sections().items()
        forms = {title: self._add_section(layout, title, rows) for title, rows in sections}
        self.effort_says = InfoLabel()
        forms["Effort"].add_wide(self.effort_says)
        # as Ptychodus tells of changes only: chosen once more, it sets once more what it sets
        self.row(EFFORT).widget.activated.connect(lambda _: settings.set_by_effort())
        if self._model_box is not None:
            self._engine_rows = EngineRows(engine_states, settings, forms["Engine"])
        self.warm_row = WarmRow(reconstructor.warm, forms["Engine"])
        self._add_folded_section(layout, folded_title, folded)
        layout.addStretch()
        self.setLayout(layout)

        wheel = WheelGuard(self)
        for kind in (QAbstractSpinBox, QComboBox):
            for widget in self.findChildren(kind):
                wheel.guard(widget)
        Relay(self._show_settings, self).watch(*(group.group for group in settings.groups))
        self._show_settings()
        model_forms = [self.live_box.form]
        if self._model_box is not None:
            engine_states.refresh()
            self._model_box.refresh()
            model_forms.append(self._model_box.form)
        align(*model_forms, *self._forms)

    @property
    def model_box(self) -> ModelBox:
        """The box of the loaded model, on the page of a reconstructor that has models."""
        assert self._model_box is not None, self._model_type
        return self._model_box

    def _sections(self) -> dict[str, tuple[Setting, ...]]:
        """The sections that this reconstructor reads something of."""
        read = {
            title: tuple(row for row in rows if self._model_type in row.of)
            for title, rows in SECTIONS.items()
        }
        return {title: rows for title, rows in read.items() if rows}

    def row(self, setting: str) -> Row:
        """The row of ``Group.Name``, as in ``Training.Epochs``."""
        return next(row for row in self.rows if row.setting.path == setting)

    def _form(self, settings: tuple[Setting, ...]) -> Form:
        form = Form()
        self._forms.append(form)
        self.rows += [Row(setting, self._settings, form) for setting in settings]
        return form

    def _add_section(self, layout: QVBoxLayout, title: str, settings: tuple[Setting, ...]) -> Form:
        box, form = QGroupBox(title), self._form(settings)
        box.setLayout(form)
        layout.addWidget(box)
        return form

    def _add_folded_section(self, layout: QVBoxLayout, title: str, settings: tuple[Setting, ...]) -> None:
        # of the window and not of the settings: what is shown makes no difference to a run
        self.show_advanced = BooleanParameter(False, None)
        tip = tool_tip("Show the settings that seldom need a change. They are in force whether shown or not.")
        controller = controllers.CheckableGroupBoxParameterViewController
        form = self._form(settings)
        try:
            self._advanced = controller(self.show_advanced, title, tool_tip=tip, collapse_when_unchecked=True)
            self._advanced.get_widget().set_contents_layout(form)
        except TypeError:  # Ptychodus 1.5 has no such box that collapses
            self._advanced = controller(self.show_advanced, title, tool_tip=tip)
            contents, around = QWidget(), QVBoxLayout()
            contents.setLayout(form)
            around.addWidget(contents)
            self._advanced.get_widget().setLayout(around)
            self._advanced.get_widget().toggled.connect(contents.setVisible)
            contents.setVisible(False)
        layout.addWidget(self._advanced.get_widget())

    def _show_settings(self) -> None:
        self._show_what_applies()
        try:
            self.effort_says.show_text(self._settings.effort_says(self._model_type))
        except ValueError as exc:
            self.effort_says.show_text(str(exc))

    def _show_what_applies(self) -> None:
        """Also what does not apply and is set all the same: it would be refused, or count, unseen."""
        visible = {}
        for row in self.rows:
            applies = row.setting.applies(self._settings.shown, self._model_type)
            visible[row.widget] = applies or row.parameter.get_value() != row.setting.default
        for form in self._forms:
            form.show_rows(visible)
