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
from ptychodus.api.settings import SettingsRegistry
from PyQt5.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QGroupBox,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ..reconstructor import PtychoPINNReconstructor
from ..settings import PluginSettings
from .engines import EngineRows, EngineStates
from .fields import ADVANCED, DATA, ENGINE, EXAMINATION, INFERENCE, MODEL, REFINEMENT, TRAINING, Field
from .findings import FindingsBox
from .model import ModelBox
from .preview import PreviewBox
from .widgets import Form, Relay, WheelGuard, align, tool_tip

try:
    controllers: Any = importlib.import_module("ptychodus.controller.parameters")
except ModuleNotFoundError:  # Ptychodus 1.5
    controllers = importlib.import_module("ptychodus.controller.parametric")


class Row:
    """A setting in a form, in Ptychodus' own widget."""

    def __init__(self, field: Field, settings: PluginSettings, form: Form) -> None:
        group = getattr(settings, field.group.lower())
        self.field = field
        self.parameter: Any = group.group.parameters()[field.name]
        tip = tool_tip(field.tip, f"{group.name}.{field.name}")
        self._controller, self.widget = _controller(field, self.parameter, tip)
        form.add(f"{field.label}:", self.widget).setToolTip(tip)


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


def _controller(field: Field, parameter: Any, tip: str) -> tuple[Any, QWidget]:
    if isinstance(parameter, StringParameter):
        combo = controllers.ComboBoxParameterViewController(parameter, field.choices(), tool_tip=tip)
        return (combo, _Unlisted(parameter, combo.get_widget())), combo.get_widget()
    if isinstance(parameter, BooleanParameter):
        controller: Any = controllers.CheckBoxParameterViewController(parameter, "", tool_tip=tip)
    elif isinstance(parameter, RealParameter):
        controller = controllers.DecimalLineEditParameterViewController(parameter, tool_tip=tip)
    else:
        assert isinstance(parameter, IntegerParameter)
        controller = controllers.SpinBoxParameterViewController(parameter, tool_tip=tip)
    widget: QWidget = controller.get_widget()
    if field.zero and isinstance(widget, QSpinBox):
        widget.setSpecialValueText(field.zero)
    return controller, widget


class SettingsPage(QWidget):
    """All sections of one reconstructor."""

    def __init__(
        self,
        settings: PluginSettings,
        reconstructor: PtychoPINNReconstructor,
        engine_states: EngineStates,
        file_dialog_factory: Any,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._model_type = reconstructor.model_type
        self._defaults = PluginSettings(SettingsRegistry())
        self._engine_states = engine_states
        self.rows: list[Row] = []
        self._forms: list[Form] = []
        self.model_box = ModelBox(reconstructor, file_dialog_factory)
        self.preview_box = PreviewBox(reconstructor)
        self.findings_box = FindingsBox(reconstructor)

        layout = QVBoxLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.model_box)
        layout.addWidget(self.findings_box)
        layout.addWidget(self.preview_box)
        engine_form = self._add_section(layout, "Engine", ENGINE)
        self._engine_rows = EngineRows(engine_states, settings, engine_form)
        for title, fields in (
            ("Model", MODEL),
            ("Data and Sampling", DATA),
            ("Training", TRAINING),
            ("Inference", INFERENCE),
            ("Refinement", REFINEMENT),
            ("Examination", EXAMINATION),
        ):
            self._add_section(layout, title, fields)
        self._add_advanced(layout)
        layout.addStretch()
        self.setLayout(layout)

        wheel = WheelGuard(self)
        for kind in (QAbstractSpinBox, QComboBox):
            for widget in self.findChildren(kind):
                wheel.guard(widget)
        Relay(self._show_what_applies, self).watch(*(group.group for group in settings.groups))
        self._show_what_applies()
        engine_states.refresh()
        self.model_box.refresh()
        align(self.model_box.form, *self._forms)

    def row(self, setting: str) -> Row:
        """The row of ``Group.Name``, as in ``Training.Epochs``."""
        return next(row for row in self.rows if f"{row.field.group}.{row.field.name}" == setting)

    def _form(self, fields: tuple[Field, ...]) -> Form:
        form = Form()
        self._forms.append(form)
        self.rows += [Row(field, self._settings, form) for field in fields]
        return form

    def _add_section(self, layout: QVBoxLayout, title: str, fields: tuple[Field, ...]) -> Form:
        box, form = QGroupBox(title), self._form(fields)
        box.setLayout(form)
        layout.addWidget(box)
        return form

    def _add_advanced(self, layout: QVBoxLayout) -> None:
        # of the window and not of the settings: what is shown makes no difference to a run
        self.show_advanced = BooleanParameter(False, None)
        tip = tool_tip("Show the settings that seldom need a change. They are in force whether shown or not.")
        controller = controllers.CheckableGroupBoxParameterViewController
        form = self._form(ADVANCED)
        try:
            self._advanced = controller(
                self.show_advanced, "Advanced", tool_tip=tip, collapse_when_unchecked=True
            )
            self._advanced.get_widget().set_contents_layout(form)
        except TypeError:  # Ptychodus 1.5 has no such box that collapses
            self._advanced = controller(self.show_advanced, "Advanced", tool_tip=tip)
            contents, around = QWidget(), QVBoxLayout()
            contents.setLayout(form)
            around.addWidget(contents)
            self._advanced.get_widget().setLayout(around)
            self._advanced.get_widget().toggled.connect(contents.setVisible)
            contents.setVisible(False)
        layout.addWidget(self._advanced.get_widget())

    def _show_what_applies(self) -> None:
        """Also what does not apply and is set all the same: it would be refused, or count, unseen."""
        visible = {}
        for row in self.rows:
            default = getattr(self._defaults, row.field.group.lower()).group.parameters()[row.field.name]
            is_default = row.parameter.get_value() == default.get_value()
            visible[row.widget] = row.field.applies(self._settings, self._model_type) or not is_default
        for form in self._forms:
            form.show_rows(visible)
