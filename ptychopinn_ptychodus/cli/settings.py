"""Settings from files and from the command line, checked before Ptychodus takes them in.

Ptychodus itself overlooks what it does not know and takes any word for a truth value; here a slip is an error
that names the setting, its value and what is allowed.
"""

from __future__ import annotations

import configparser
import difflib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings_table import EFFORT, PREFIX
from .errors import UsageError

if TYPE_CHECKING:
    from ptychodus.api.settings import SettingsRegistry

logger = logging.getLogger(__name__)

_TRUTH = ("1", "true", "t", "yes", "y", "0", "false", "f", "no", "n")


def open_settings_file(registry: SettingsRegistry, path: Path) -> None:
    """Take in a settings file.

    Raises
    ------
    UsageError
        If it does not exist, is no settings file, or holds a value that its setting cannot have.
    """
    if not path.is_file():
        raise UsageError(f'There is no settings file "{path}".')
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (configparser.Error, UnicodeDecodeError) as exc:
        reason = str(exc).replace("\n", " ")
        raise UsageError(
            f'"{path}" is not a settings file: {reason}. Correct it there, or save the settings again, as '
            "plain UTF-8 text without a byte order mark."
        ) from exc
    for section in config.sections():
        if section in set(registry):
            for name, parameter in registry[section].parameters().items():
                if config.has_option(section, name):
                    _check(parameter, section, name, config[section][name], f' (in "{path}")')
        elif section.startswith(PREFIX):
            logger.warning('"%s" has a section [%s] that does not exist; it is ignored.', path, section)
    registry.open_settings(path)


def assign_all(registry: SettingsRegistry, assignments: Iterable[str]) -> None:
    """Take in each ``Section.Key=value``, the later over the earlier; errors are those of :func:`assign`.

    The effort comes first wherever it stands: what it sets may be set otherwise beside it.
    """
    for assignment in sorted(assignments, key=lambda text: not _is_effort(text)):
        assign(registry, assignment)


def _is_effort(assignment: str) -> bool:
    return assignment.partition("=")[0].strip() == PREFIX + EFFORT


def assign(registry: SettingsRegistry, assignment: str) -> None:
    """Take in ``Section.Key=value``.

    Raises
    ------
    UsageError
        If it is not of that form, or section, key or value are not valid; the message lists what is.
    """
    target, equals, value = assignment.partition("=")
    section, dot, key = target.strip().partition(".")
    if not (equals and dot and section and key):
        raise UsageError(f"--set {assignment} is not Section.Key=value, like {PREFIX}Training.Epochs=20.")
    sections = sorted(registry)
    if section not in sections:
        own = [name for name in sections if name.startswith(PREFIX)]
        near = [name for name in difflib.get_close_matches(section, sections, 1) if name not in own]
        raise UsageError(
            f"--set {assignment}: there is no section {section}. Sections of the plugin: {', '.join(own)}"
            + (f"; of Ptychodus, for example: {near[0]}." if near else ".")
        )
    parameters = registry[section].parameters()
    if key not in parameters:
        raise UsageError(
            f"--set {assignment}: {section} has no setting {key}. It has: {', '.join(sorted(parameters))}."
        )
    value = value.strip()
    _check(parameters[key], section, key, value, "")
    parameters[key].set_value_from_string(value)
    if _is_effort(assignment):  # also if it is at this one: it has to replace what a file has set
        parameters[key].notify_observers()


def _check(parameter: Any, section: str, key: str, value: str, where: str) -> None:
    current = parameter.get_value()
    if isinstance(current, bool):
        if value.lower() not in _TRUTH:
            raise UsageError(f"{section}.{key} = {value}{where} is not valid: use True or False.")
        return
    try:
        parameter.copy().set_value_from_string(value)
    except (ValueError, TypeError) as exc:
        kind = {int: "a whole number", float: "a number"}.get(type(current), f"a value like {current!r}")
        raise UsageError(f"{section}.{key} = {value}{where} is not valid: use {kind}.") from exc
