"""The tables of the specification, of settings (4.1) and of configurations (4.2), say what the code does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, islice, takewhile
from pathlib import Path

import pytest

from ptychopinn_ptychodus.config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.settings_table import GROUPS, PREFIX, SETTINGS

SPECIFICATION = (Path(__file__).parents[2] / "specs" / "ptychodus_api_spec.md").read_text(encoding="utf-8")
CONFIGURATIONS = (ModelConfig, TrainingConfig, InferenceConfig, ExecutionConfig)
ELSEWHERE = {"Model.Backend": {"backend"}}
"""The setting decides on the field by way of the engine that it selects, and not as its value."""


@dataclass(frozen=True)
class Specified:
    """What the specification says of one setting.

    Attributes
    ----------
    default
        As it is written.
    fields
        Names of fields of configurations.
    allowed
        What stands in brackets after the name: limits, as in ``1 to 8``, choices, or nothing.
    """

    default: str
    fields: set[str]
    allowed: str


def _rows(text: str) -> Iterator[list[str]]:
    """The cells of the first table in ``text``, without its heading."""
    lines = dropwhile(lambda line: "| --- |" not in line, text.splitlines())
    for line in takewhile(lambda line: "|" in line, islice(lines, 1, None)):
        yield [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def _values(cell: str, count: int) -> list[str]:
    """A value for each of ``count`` names, all of which have the one where there is only one."""
    values = cell.replace("`", "").strip().split(", ", count - 1)
    return values * count if len(values) == 1 else values


def _specified() -> dict[str, Specified]:
    """The rows by ``Group.Name``; one may be that of several settings, with a value and a field for each."""
    found: dict[str, Specified] = {}
    group = ""
    for in_group, names, defaults, of_fields in _rows(SPECIFICATION.split("### Settings")[1]):
        group = in_group.strip("`").removeprefix(PREFIX) or group
        names, _, allowed = names.partition(" (")
        settings = re.findall(r"`(\w+)`", names)
        values = _values(re.split(r"[:(]", defaults)[0], len(settings))  # without what is said of them
        # classes are named after "of", and what stands in brackets is no field
        fields = re.findall(r"(?<!of )`(\w+)`", re.sub(r"\(.*?\)", "", of_fields))
        for number, name in enumerate(settings):
            found[f"{group}.{name}"] = Specified(
                values[number],
                set(fields if len(settings) == 1 else fields[number : number + 1]),
                allowed.rstrip(")"),
            )
    return found


SPECIFIED = _specified()


def test_the_specification_has_every_setting_and_no_other() -> None:
    assert set(SPECIFIED) == set(SETTINGS)
    assert list(dict.fromkeys(path.partition(".")[0] for path in SPECIFIED)) == list(GROUPS)


@pytest.mark.parametrize("path", SPECIFIED)
def test_default_fields_and_limits_are_those_of_the_table(path: str) -> None:
    row, specified = SETTINGS[path], SPECIFIED[path]
    number = isinstance(row.default, int | float) and not isinstance(row.default, bool)
    assert (float(specified.default) if number else specified.default) == (
        row.default if number else str(row.default)
    )
    assert specified.fields == ELSEWHERE.get(path, set(row.sets.values()))
    choices = set(re.findall(r"`(\w+)`", specified.allowed))
    if choices:
        assert choices == set(row.choices())
    else:
        limits = "" if row.maximum is None else f"{row.minimum:g} to {row.maximum:g}"
        assert specified.allowed == limits


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: config.__name__)
def test_fields_and_defaults_are_those_of_the_configuration(config: type) -> None:
    said: dict[str, str] = {}
    text = SPECIFICATION.split("## 4.2")[1].split(f"\n   `{config.__name__}`")[1]
    for names, _, defaults in _rows(text):
        fields = re.findall(r"`(\w+)`", names)
        said |= dict(zip(fields, _values(defaults, len(fields)), strict=True))
    made = config()
    assert set(said) == {field.name for field in dataclasses.fields(config)}
    for name, written in said.items():
        value = getattr(made, name)
        if isinstance(value, ModelConfig):
            assert (value, written) == (ModelConfig(), "its defaults")
        elif isinstance(value, float):
            assert float(written) == value
        else:
            assert written in (repr(value), str(value), f"None, which becomes {value}"), name
