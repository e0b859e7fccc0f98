"""Settings and what they stand for in the configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugin_support import make_library

from ptychopinn_ptychodus.backends.base import ModelFileError
from ptychopinn_ptychodus.config import ModelConfig
from ptychopinn_ptychodus.plugin.settings import (
    PluginSettings,
    make_examination_config,
    make_execution_config,
    make_reconstruction_request,
    make_refinement_config,
    make_training_request,
    naming_settings,
)
from ptychopinn_ptychodus.settings_table import SETTING_OF_FIELD
from ptychopinn_ptychodus.worker.request import neighbor_count

# So that each setting can be changed by itself: an architecture that takes most, nothing left to choose.
BASE = {
    "Model_Architecture": "cnn",
    "Data_NeighborCount": 9,
    "Training_RealspaceMAEWeight": 0.5,
    "Refinement_Epochs": 10,
}
NOT_OF_CNN = {"Reflections"}
# Other values than the defaults: of texts, and of numbers that may not be one more than they are.
OTHER_VALUES = {
    "Architecture": "unrolled",
    "AmplitudeActivation": "relu",
    "Scheduler": "constant",
    "Accelerator": "cpu",
    "Precision": "16-mixed",
    "LoggerBackend": "csv",
    "Strategy": "ddp",
    "Metric": "poisson",
    "Prior": "auto",
    "PatternValues": "counts",
    "PatternSize": 96,
}
# They choose the engine, what it starts from, what is held out and left out, and what other settings are: no
# field of a configuration. Those of a refinement without a model are tested with that.
ELSEWHERE = {
    "PtychoPINNPluginTraining.Effort",
    "PtychoPINNPluginModel.Backend",
    "PtychoPINNPluginData.ValidationFraction",
    "PtychoPINNPluginTraining.Preview",
    "PtychoPINNPluginTraining.Start",
    "PtychoPINNPluginData.SkipDamaged",
    "PtychoPINNPluginInference.KeepWarm",
    "PtychoPINNPluginWithoutModel.Start",
    "PtychoPINNPluginWithoutModel.Epochs",
}


def fields(settings: PluginSettings) -> dict[tuple[str, str], object]:
    """Every field of every configuration that is made of the settings."""
    training = make_training_request(
        settings, "pinn", backend="pytorch", input_path=Path("in"), output_path=Path("out")
    ).complete(64)
    inference = make_reconstruction_request(
        settings, backend="pytorch", model_path=Path("model.ckpt")
    ).complete(ModelConfig())
    refinement = make_refinement_config(settings)
    assert refinement is not None
    others = (make_execution_config(settings), refinement, make_examination_config(settings))
    return {
        (type(config).__name__, field.name): getattr(config, field.name)
        for config in (training.model, training, inference, *others)
        for field in dataclasses.fields(config)
        if field.name != "model"
    }


def test_every_field_that_a_setting_fills_is_named_after_it() -> None:
    library = make_library(**BASE)
    found = _filled(library, lambda name: name not in NOT_OF_CNN)
    found |= _filled(make_library(**BASE | {"Model_Architecture": "unrolled"}), NOT_OF_CNN.__contains__)
    assert found == {key: row.full_name for key, row in SETTING_OF_FIELD.items()}
    all_settings = {
        f"{settings.name}.{name}"
        for settings in library.settings.groups
        for name in settings.group.parameters()
    }
    assert all_settings - set(found.values()) == ELSEWHERE


def _filled(library: Any, chosen: Callable[[str], bool]) -> dict[tuple[str, str], str]:
    """Which field each of the chosen settings fills."""
    before = fields(library.settings)
    found: dict[tuple[str, str], str] = {}
    for settings in library.settings.groups:
        for name, parameter in settings.group.parameters().items():
            old = parameter.get_value()
            if not chosen(name) or (isinstance(old, str) and name not in OTHER_VALUES):
                continue
            new: Any
            if name in OTHER_VALUES:
                new = OTHER_VALUES[name]
            else:
                new = not old if isinstance(old, bool) else old + 1
            parameter.set_value(new)
            after = fields(library.settings)
            found |= {key: f"{settings.name}.{name}" for key in before if after[key] != before[key]}
            parameter.set_value(old)
    return found


def test_settings_that_could_change_nothing_are_not_offered() -> None:
    library = make_library()
    groups = {group.name: group.group.parameters() for group in library.settings.groups}
    assert "NumPhotons" not in groups["PtychoPINNPluginTraining"]
    assert "PositionsProvided" not in groups["PtychoPINNPluginData"]


def test_what_an_engine_refuses_is_named_after_its_setting() -> None:
    text = "ExecutionConfig.logger_backend = 'mlflow' is not supported by the engine 'tensorflow'"
    named = r"^The setting PtychoPINNPluginTraining\.LoggerBackend = 'mlflow'"
    with pytest.raises(ModelFileError, match=named), naming_settings():
        raise ModelFileError(text)  # it stays what it is
    error = ValueError("The day is not good.")
    with pytest.raises(ValueError, match="not good") as caught, naming_settings():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("setting", "gridsize", "expected"), [(None, 2, 6), (None, 1, 3), (3, 2, 3), (1, 1, 1)]
)
def test_neighbours_to_choose_from(setting: int | None, gridsize: int, expected: int) -> None:
    assert neighbor_count(setting, gridsize) == expected


def test_too_few_neighbours_to_choose_from() -> None:
    with pytest.raises(ValueError, match=r"PtychoPINNPluginData\.NeighborCount = 7 .* at least 8"):
        neighbor_count(7, 3)
