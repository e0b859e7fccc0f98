"""Ptychodus' settings groups, and what their values ask a worker for.

Both are made from the rows of :mod:`..settings_table`. Every function reads the settings at the moment that
it is called, so that a change takes effect at the next run. A value that the configuration refuses is a
``ValueError`` that names the setting as it is written in a settings file, ``Group.Name``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import ParameterBase, ParameterGroup
from ptychodus.api.settings import SettingsRegistry

from ..config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ..data.examination import ExaminationConfig
from ..refinement import RefinementConfig
from ..settings_table import (
    EFFORT,
    EFFORTS,
    GROUPS,
    PREFIX,
    SETTING_OF_FIELD,
    SETTINGS,
    Setting,
    effort_says,
    fields_of,
    known_object_weight,
    with_effort,
)
from ..worker.request import ReconstructionRequest, TrainingRequest, neighbor_count


class SettingsGroup:
    """One settings group of Ptychodus, with a parameter for each row of the table.

    Attributes
    ----------
    name
        As a settings file has it, ``PtychoPINNPluginTraining``.
    group
        Ptychodus' own object.
    """

    def __init__(self, registry: SettingsRegistry, group: str) -> None:
        self.name = PREFIX + group
        self.group: ParameterGroup = registry.create_group(self.name)
        for row in SETTINGS.values():
            if row.group == group:
                _create_parameter(self.group, row)

    def __getitem__(self, name: str) -> Any:
        """Ptychodus' parameter of that name."""
        return self.group.parameters()[name]


def _create_parameter(group: ParameterGroup, row: Setting) -> None:
    limits: dict[str, Any] = {"minimum": row.minimum, "maximum": row.maximum}
    if isinstance(row.default, str):
        group.create_string_parameter(row.name, row.default)
    elif isinstance(row.default, bool):
        group.create_boolean_parameter(row.name, row.default)
    elif isinstance(row.default, int):
        group.create_integer_parameter(row.name, row.default, **limits)
    else:
        group.create_real_parameter(row.name, row.default, **limits)


class PluginSettings:
    """All groups, shared by the reconstructors."""

    def __init__(self, registry: SettingsRegistry) -> None:
        self._groups = {group: SettingsGroup(registry, group) for group in GROUPS}
        self._effort = _EffortSets(self)  # observers are all that Ptychodus keeps of it

    @property
    def groups(self) -> list[SettingsGroup]:
        """In the order of a settings file."""
        return list(self._groups.values())

    def __getitem__(self, path: str) -> Any:
        """Ptychodus' parameter of the setting ``Group.Name``, as in ``settings["Training.Epochs"]``."""
        row = SETTINGS[path]
        return self._groups[row.group][row.name]

    def shown(self, path: str) -> Any:
        """The value of the setting ``Group.Name`` as Ptychodus shows it; not checked."""
        return self[path].get_value()

    def value(self, path: str) -> Any:
        """The value of the setting ``Group.Name`` as a configuration is given it.

        Raises
        ------
        ValueError
            If it is outside its limits. Ptychodus hands out a number outside them as the nearest limit; a
            settings file that says 0 epochs should hear about it instead.
        """
        row = SETTINGS[path]
        return row.in_configuration(self._checked(row))

    def choice(self, path: str) -> str:
        """The value of a setting that is one of its choices, of which no configuration makes sure.

        Raises
        ------
        ValueError
            If it is none of them; the message names setting and choices.
        """
        row, value = SETTINGS[path], str(self.value(path))
        assert row.choices is not None, path
        if value not in row.choices():
            allowed = ", ".join(map(repr, row.choices()))
            raise ValueError(f"The setting {row.full_name} = {value!r} is not valid: use one of {allowed}.")
        return value

    def fields_of(self, config: type) -> dict[str, Any]:
        """The fields of a configuration class that settings set; errors are those of :meth:`value`."""
        return fields_of(config, self._checked)

    def set_by_effort(self) -> None:
        """Set what the effort sets, whatever it is at; an effort that there is not sets nothing."""
        effort = self.shown(EFFORT)
        if effort in EFFORTS:
            for path, value in with_effort(effort).items():
                self[path].set_value(value)

    def effort_says(self, model_type: str) -> str:
        """What has come of the effort, see :func:`.settings_table.effort_says`."""
        return effort_says(self.shown, model_type)

    def _checked(self, row: Setting) -> Any:
        value: Any = ParameterBase.get_value(self[row.path])
        minimum, maximum = row.minimum, row.maximum
        if (minimum is not None and not value >= minimum) or (maximum is not None and not value <= maximum):
            limits = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise ValueError(f"The setting {row.full_name} = {value!r} is not valid: use a value {limits}.")
        return value


class _EffortSets(Observer):
    """Sets what the effort sets as soon as that is chosen.

    Ptychodus reads and writes every value of a settings file, and knows none that is not set. It reads the
    effort before what that sets, since rows of the table come in that order: a file that has both is obeyed
    in both.
    """

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__()
        self._settings = settings
        settings[EFFORT].add_observer(self)

    def _update(self, observable: Observable) -> None:
        self._settings.set_by_effort()


@contextmanager
def naming_settings() -> Iterator[None]:
    """Rewrite ``ModelConfig.field`` in an error as the setting that the user can change."""

    def setting(match: re.Match[str]) -> str:
        row = SETTING_OF_FIELD.get((match[1], match[2]))
        return match[0] if row is None else f"The setting {row.full_name}"

    try:
        yield
    except ValueError as exc:
        text = re.sub(r"\b(\w+Config)\.(\w+)", setting, str(exc))
        if "has nothing to learn from" in text:
            text = (
                "There is nothing to learn from: set NLLWeight, MAEWeight, RealspaceMAEWeight or "
                "RealspaceAlignedWeight (PtychoPINNPluginTraining) above 0."
            )
        if text == str(exc):
            raise
        raise type(exc)(text) from exc


def make_training_request(
    settings: PluginSettings, model_type: str, *, backend: str, input_path: Path | None, output_path: Path
) -> TrainingRequest:
    """The training as it is set; the worker makes a configuration of it, once it has seen the data."""
    paths = {"train_data_file": input_path, "output_dir": output_path}
    with naming_settings():
        model = {"model_type": model_type, **settings.fields_of(ModelConfig)}
        training = {"backend": backend, **paths, **settings.fields_of(TrainingConfig)}
        training["neighbor_count"] = neighbor_count(training["neighbor_count"], model["gridsize"])
        training["realspace_mae_weight"] = known_object_weight(training["realspace_mae_weight"], model_type)
        asked = TrainingRequest(model, training)
        asked.check()
    return asked


def make_reconstruction_request(
    settings: PluginSettings, *, backend: str, model_path: Path
) -> ReconstructionRequest:
    """How a model is to be applied; the worker makes a configuration of it, once it has read the model."""
    with naming_settings():
        asked = ReconstructionRequest(model_path, {"backend": backend, **settings.fields_of(InferenceConfig)})
        asked.check()
    return asked


def make_execution_config(settings: PluginSettings) -> ExecutionConfig:
    """Hardware and optimiser."""
    with naming_settings():
        return ExecutionConfig(**settings.fields_of(ExecutionConfig))


def make_refinement_config(settings: PluginSettings) -> RefinementConfig | None:
    """What is to become of the network's object; None: it is the result."""
    with naming_settings():
        if settings.value("Refinement.Epochs") == 0:
            return None
        return RefinementConfig(**settings.fields_of(RefinementConfig))


def make_config_without_model(settings: PluginSettings, probe_modes: int) -> RefinementConfig:
    """The refinement that finds an object by itself, with a probe that has ``probe_modes`` modes by now."""
    with naming_settings():
        fields = settings.fields_of(RefinementConfig)
        fields["epochs"] = settings.value("WithoutModel.Epochs")
        fields["probe_modes"] = max(settings.value("Training.ProbeModes") or 1, probe_modes)
        return RefinementConfig(**fields)


def make_examination_config(settings: PluginSettings) -> ExaminationConfig:
    """What is looked for in a scan, and what is done about it."""
    with naming_settings():
        return ExaminationConfig(**settings.fields_of(ExaminationConfig))
