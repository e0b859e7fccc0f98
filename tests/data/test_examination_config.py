"""What the examination may be asked for, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ptychopinn_ptychodus.data.examination import ExaminationConfig
from ptychopinn_ptychodus.data.examination.config import PATTERN_VALUES

FLAGS = ("mask_pixels", "centre_patterns", "refuse", "judge")


def test_everything_is_looked_for_unless_somebody_says_otherwise() -> None:
    config = ExaminationConfig()
    assert config.pattern_values == "auto"
    assert all(getattr(config, name) is True for name in FLAGS)


@pytest.mark.parametrize("value", PATTERN_VALUES)
def test_each_kind_of_pattern_values_is_allowed(value: str) -> None:
    assert ExaminationConfig(pattern_values=value).pattern_values == value


@pytest.mark.parametrize("name", FLAGS)
def test_each_part_can_be_left_out(name: str) -> None:
    changes: dict[str, Any] = {name: False}
    assert getattr(ExaminationConfig(**changes), name) is False


@pytest.mark.parametrize("value", ["intensity", "Counts", "", None, 1, True])
def test_other_pattern_values_are_refused(value: object) -> None:
    changes: dict[str, Any] = {"pattern_values": value}
    with pytest.raises(
        ValueError, match=r"ExaminationConfig\.pattern_values = .*'auto', 'counts', 'amplitude'"
    ):
        ExaminationConfig(**changes)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [0, 1, "yes", "False", None])
def test_what_is_no_truth_value_is_refused(name: str, value: object) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"ExaminationConfig\.{name} = .* use True or False"):
        ExaminationConfig(**changes)
