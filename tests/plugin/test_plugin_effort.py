"""The setting Effort: what it sets, what wins over it, and where that is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from plugin_support import make_library, run
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.plugin.settings import PluginSettings
from ptychopinn_ptychodus.settings_table import EFFORT, EFFORTS, NORMAL, SETTINGS, with_effort

GOVERNED = [path for path, row in SETTINGS.items() if row.by_effort]


def opened(tmp_path: Path, text: str) -> PluginSettings:
    """The settings after Ptychodus has opened a file."""
    file = tmp_path / "settings.ini"
    file.write_text(text)
    registry = SettingsRegistry()
    settings = PluginSettings(registry)
    registry.open_settings(file)
    return settings


def values(settings: PluginSettings) -> dict[str, int]:
    return {path: settings.value(path) for path in GOVERNED}


def test_the_efforts_rise_and_normal_is_the_default() -> None:
    assert set(GOVERNED) == {"Training.Epochs", "Refinement.Epochs", "WithoutModel.Epochs"}
    for path in GOVERNED:
        row = SETTINGS[path]
        quick, normal, thorough = (row.by_effort[effort] for effort in EFFORTS)
        assert 1 <= quick < normal < thorough
        assert normal == row.default == row.by_effort[NORMAL]


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_sets_what_it_is_about(effort: str, tmp_path: Path) -> None:
    assert values(opened(tmp_path, f"[PtychoPINNPluginTraining]\nEffort = {effort}\n")) == with_effort(effort)


def test_what_is_set_afterwards_wins_until_another_effort_is_chosen() -> None:
    settings = make_library().settings
    settings[EFFORT].set_value("quick")
    settings["Training.Epochs"].set_value(30)
    assert values(settings) == {**with_effort("quick"), "Training.Epochs": 30}
    settings[EFFORT].set_value("thorough")
    assert values(settings) == with_effort("thorough")


def test_what_a_file_says_beside_the_effort_wins_wherever_it_stands(tmp_path: Path) -> None:
    settings = opened(
        tmp_path,
        "[PtychoPINNPluginRefinement]\nEpochs = 0\n"
        "[PtychoPINNPluginTraining]\nEpochs = 30\nEffort = thorough\n",
    )
    thorough = with_effort("thorough")
    assert values(settings) == {**thorough, "Training.Epochs": 30, "Refinement.Epochs": 0}


def test_a_file_from_before_there_were_efforts_means_what_it_meant(tmp_path: Path) -> None:
    settings = opened(tmp_path, "[PtychoPINNPluginTraining]\nEpochs = 30\n")
    assert values(settings) == {**with_effort(NORMAL), "Training.Epochs": 30}


def test_a_file_that_ptychodus_writes_is_read_as_it_was(tmp_path: Path) -> None:
    registry = SettingsRegistry()
    settings = PluginSettings(registry)
    settings[EFFORT].set_value("quick")
    settings["Training.Epochs"].set_value(SETTINGS["Training.Epochs"].default)
    registry.save_settings(tmp_path / "saved.ini")
    again = opened(tmp_path, (tmp_path / "saved.ini").read_text())
    assert again.shown(EFFORT) == "quick"
    assert values(again) == values(settings)


def test_a_run_says_what_has_come_of_the_effort(
    standard_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = make_library(Training_Effort="quick", Training_Epochs=1)
    library.settings["Refinement.Epochs"].set_value(0)
    with caplog.at_level(logging.INFO, "PtychoPINN-Plugin"):
        run(next(iter(library)).train(standard_directory, tmp_path / "out"))
    quick = with_effort("quick")["Training.Epochs"]
    refinement = with_effort("quick")["Refinement.Epochs"]
    said = f"training epochs 1 (quick: {quick}), refinement epochs off (quick: {refinement})."
    assert f'Effort "quick": {said}' in caplog.text


def test_an_effort_that_there_is_not_is_refused(standard_directory: Path, tmp_path: Path) -> None:
    library = make_library(Training_Effort="great")
    assert library.settings.value("Training.Epochs") == SETTINGS["Training.Epochs"].default
    refused = r"PtychoPINNPluginTraining\.Effort = 'great' is not valid: use 'quick', 'normal', 'thorough'"
    with pytest.raises(ValueError, match=refused):
        run(next(iter(library)).train(standard_directory, tmp_path / "out"))
