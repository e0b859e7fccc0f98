"""Writes docs/settings.md from the panel's table of fields and the settings themselves.

    python scripts/settings_page.py [--output docs/settings.md]

Nothing about a setting is written here. It needs the extra ``gui``, since the table is part of the panel, but
no display.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptychodus.api.parameters import BooleanParameter, IntegerParameter, RealParameter, StringParameter
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.plugin import settings as plugin_settings
from ptychopinn_ptychodus.plugin.panel import fields
from ptychopinn_ptychodus.plugin.panel.fields import Field
from ptychopinn_ptychodus.plugin.settings import PluginSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
MODEL_TYPES = {"pinn": "PINN", "supervised": "Supervised"}
TITLES = {"DATA": "Data and Sampling"}  # of the panel, where it is not the name of the table

INTRODUCTION = """\
<!-- Written by `python scripts/settings_page.py`: change the tables that it reads, not this page. -->

# Every setting

Both reconstructors, `PINN` and `Supervised`, share these settings. They are Ptychodus' own: shown on the
reconstructor's page in the window, kept in Ptychodus' settings file under the names given here, and read when
a run starts, so that a change takes effect at the next training or inference, without a restart.

- **Which file wins.** `ptychodus -b … -i IN -s FILE` opens `FILE`, and then `IN/settings.ini` if there is
  one: what that says overrides `FILE`, the algorithm included. `ptychopinn-ptychodus train` and `reconstruct`
  apply, later over earlier, `IN/settings.ini`, `-s FILE`, `--set Group.Name=value`.
- **What a file leaves out keeps its default.** A value that is not allowed is an error that names it.
- **Units.** Lengths are object pixels. Patterns, groups, epochs and steps are counted. Weights, scales and
  fractions have no unit.
- **What does not apply is not shown** in the window, unless it has been changed.
- **At inference the model decides** on architecture, grid size and probe modes, whatever is set.

What the words mean is in [method.md](method.md).
"""


def page() -> str:
    """The whole page."""
    settings = PluginSettings(SettingsRegistry())
    parts = [INTRODUCTION]
    for title, section in sections():
        parts.append(f"## {title}\n")
        parts += [_entry(field, settings) for field in section]
    parts.append(f"## All defaults, as a settings file\n\n{_defaults(settings)}")
    return "\n".join(parts)


def sections() -> Iterator[tuple[str, tuple[Field, ...]]]:
    """Title and fields of each section, in the panel's order."""
    for name, value in vars(fields).items():
        if isinstance(value, tuple) and value and all(isinstance(item, Field) for item in value):
            yield TITLES.get(name, name.title()), value


def _parameters(settings: PluginSettings, group: str) -> Any:
    return getattr(settings, group.lower())


def _parameter(settings: PluginSettings, field: Field) -> Any:
    return _parameters(settings, field.group).group.parameters()[field.name]


def _entry(field: Field, settings: PluginSettings) -> str:
    parameter = _parameter(settings, field)
    full_name = f"{_parameters(settings, field.group).name}.{field.name}"
    facts = [f"default `{parameter.get_value_as_string()}`", _allowed(field, settings)]
    if field.zero:
        facts.append(f"0: {field.zero}")
    conditions = _conditions(field)
    if conditions:
        facts.append(f"applies {conditions}")
    return f"### {field.label}\n\n`{full_name}`: {'; '.join(facts)}\n\n{field.tip}\n"


def _allowed(field: Field, settings: PluginSettings) -> str:
    parameter = _parameter(settings, field)
    if isinstance(parameter, StringParameter):
        return f"one of {', '.join(f'`{choice}`' for choice in field.choices())}"
    if isinstance(parameter, BooleanParameter):
        return "`True` or `False`"
    kind = "whole number" if isinstance(parameter, IntegerParameter) else "number"
    assert isinstance(parameter, (IntegerParameter, RealParameter)), parameter
    minimum, maximum = parameter.get_minimum(), parameter.get_maximum()
    if minimum is None:
        return kind if maximum is None else f"{kind} up to {maximum:g}"
    least = f"from {minimum:g}" if _is_accepted(field, minimum) else f"above {minimum:g}"
    if maximum is None:
        return f"{kind} {least.replace('from', 'of at least')}"
    return f"{kind} {least} to {maximum:g}"


def _is_accepted(field: Field, value: Any) -> bool:
    """Whether the configuration takes the least value that the parameter has."""
    settings = PluginSettings(SettingsRegistry())
    _parameter(settings, field).set_value(value)
    nowhere = Path()
    try:
        plugin_settings.make_training_config(
            settings, "pinn", backend="pytorch", input_path=nowhere, output_path=nowhere
        )
        plugin_settings.make_inference_config(settings, backend="pytorch", model_path=nowhere)
        plugin_settings.make_execution_config(settings)
        plugin_settings.make_refinement_config(settings)
        plugin_settings.make_examination_config(settings)
    except ValueError as exc:
        # of several weights, one has to be above 0: that is said of all of them, and forbids none
        return f"{_parameters(settings, field.group).name}.{field.name}" not in str(exc)
    return True


def _conditions(field: Field) -> str:
    """When a setting applies, found by trying: every model type, every value of every choice."""
    defaults = PluginSettings(SettingsRegistry())
    verdicts = {kind: field.applies(defaults, kind) for kind in MODEL_TYPES}
    if all(verdicts.values()):
        return ""
    if any(verdicts.values()):
        return "to " + " and ".join(MODEL_TYPES[kind] for kind, applies in verdicts.items() if applies)
    found = []
    for other in itertools.chain.from_iterable(section for _, section in sections()):
        values = [value for value in _values(other, defaults) if _applies_with(field, other, value)]
        if values:
            name = f"{_parameters(defaults, other.group).name}.{other.name}"
            found.append(f"with `{name} = {' or '.join(map(str, values))}`")
    if not found:
        raise ValueError(f"No single setting makes {field.group}.{field.name} apply: say here when it does.")
    return " or ".join(found)


def _values(field: Field, settings: PluginSettings) -> tuple[Any, ...]:
    if isinstance(_parameter(settings, field), BooleanParameter):
        return (True, False)
    return field.choices()


def _applies_with(field: Field, other: Field, value: Any) -> bool:
    settings = PluginSettings(SettingsRegistry())
    _parameter(settings, other).set_value(value)
    return all(field.applies(settings, kind) for kind in MODEL_TYPES)


def _defaults(settings: PluginSettings) -> str:
    lines = ["```ini"]
    for group in vars(settings).values():
        lines.append(f"[{group.name}]")
        for name, parameter in group.group.parameters().items():
            lines.append(f"{name} = {parameter.get_value_as_string()}")
        lines.append("")
    return "\n".join([*lines[:-1], "```", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.parse_args().output.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
