"""Settings of a library, and values for them that a settings file may hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptychodus.api.parameters import (
    BooleanParameter,
    IntegerParameter,
    Parameter,
    ParameterBase,
    PathParameter,
    RealParameter,
    StringParameter,
)
from ptychodus.api.settings import SettingsRegistry


@dataclass(frozen=True)
class Setting:
    """A parameter, under the name that a settings file has for it."""

    group: str
    name: str
    parameter: Parameter[Any]

    def __str__(self) -> str:
        return f"{self.group}.{self.name}"


def parameters_of(settings: SettingsRegistry) -> Iterator[Setting]:
    """Every setting of a registry."""
    for group in settings:
        for name, parameter in settings[group].parameters().items():
            yield Setting(group, name, parameter)


def extremes(parameter: Parameter[Any]) -> list[Any]:
    """Values at and beyond the limits: Ptychodus does not look at what a settings file says."""
    if isinstance(parameter, BooleanParameter):
        return [False, True]
    if isinstance(parameter, IntegerParameter):
        limits = (parameter.get_minimum(), parameter.get_maximum())
        return [-1, 0, 1, 2**31, *(limit for limit in limits if limit is not None)]
    if isinstance(parameter, RealParameter):
        bounds = (parameter.get_minimum(), parameter.get_maximum())
        return [-1.0, 0.0, 1e300, math.inf, math.nan, *(bound for bound in bounds if bound is not None)]
    if isinstance(parameter, StringParameter):
        return ["", "no such value", "Ω %(x)s"]
    if isinstance(parameter, PathParameter):
        return [Path(), Path("no/such/file")]
    if isinstance(parameter, ParameterBase) and isinstance(parameter.get_value(), list):
        return [[]]
    return []


def preset(settings: SettingsRegistry) -> None:
    """Give every setting that can have one a value other than its default."""
    for setting in parameters_of(settings):
        parameter = setting.parameter
        before: Any = parameter.get_value()
        if isinstance(parameter, BooleanParameter):
            parameter.set_value(not before)
        elif isinstance(parameter, (IntegerParameter, RealParameter)):
            limits: tuple[Any, ...] = (parameter.get_maximum(), parameter.get_minimum(), before + 1)
            for limit in limits:
                if limit is not None and limit != before:
                    parameter.set_value(limit)
                    break
