"""Writes docs/settings.md from the table of settings, ``ptychopinn_ptychodus/settings_table.py``.

    python scripts/settings_page.py [--output docs/settings.md]

Nothing about a setting is written here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.plugin import settings as plugin_settings
from ptychopinn_ptychodus.plugin.settings import PluginSettings
from ptychopinn_ptychodus.ptychodus_io.names import REFINEMENT
from ptychopinn_ptychodus.settings_table import EVERY, SECTIONS, SETTINGS, WITHOUT_MODEL, Setting

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
MODEL_TYPES = {"pinn": "PINN", "supervised": "Supervised", WITHOUT_MODEL: REFINEMENT}

INTRODUCTION = """\
<!-- Written by `python scripts/settings_page.py`: change the table that it reads, not this page. -->

# Every setting

The reconstructors `PINN`, `Supervised` and `Refinement` share these settings; those that `Refinement` reads
say so. They are Ptychodus' own: shown on the reconstructor's page in the window, kept in Ptychodus' settings
file under the names given here, and read when a run starts, so that a change takes effect at the next
training or inference, without a restart.

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
    parts = [INTRODUCTION]
    for title, rows in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_entry(row) for row in rows]
    parts.append(f"## All defaults, as a settings file\n\n{_defaults()}")
    return "\n".join(parts)


def _entry(row: Setting) -> str:
    default = PluginSettings(SettingsRegistry())[row.path].get_value_as_string()
    facts = [f"default `{default}`", _allowed(row)]
    if row.zero:
        facts.append(f"0: {row.zero}")
    if WITHOUT_MODEL in row.of:
        facts.append(f"of `{REFINEMENT}` {'as well' if row.of == EVERY else 'alone'}")
    conditions = _conditions(row)
    if conditions:
        facts.append(f"applies {conditions}")
    return f"### {row.label}\n\n`{row.full_name}`: {'; '.join(facts)}\n\n{row.tip}\n"


def _allowed(row: Setting) -> str:
    if isinstance(row.default, str):
        return f"one of {', '.join(f'`{choice}`' for choice in row.choices())}"
    if isinstance(row.default, bool):
        return "`True` or `False`"
    kind = "whole number" if isinstance(row.default, int) else "number"
    minimum, maximum = row.minimum, row.maximum
    if minimum is None:
        return kind if maximum is None else f"{kind} up to {maximum:g}"
    least = f"from {minimum:g}" if _is_accepted(row, minimum) else f"above {minimum:g}"
    if maximum is None:
        return f"{kind} {least.replace('from', 'of at least')}"
    return f"{kind} {least} to {maximum:g}"


def _is_accepted(row: Setting, value: Any) -> bool:
    """Whether the configuration takes the least value that the parameter has."""
    settings = PluginSettings(SettingsRegistry())
    settings[row.path].set_value(value)
    nowhere = Path()
    try:
        plugin_settings.make_training_request(
            settings, "pinn", backend="pytorch", input_path=nowhere, output_path=nowhere
        )
        plugin_settings.make_reconstruction_request(settings, backend="pytorch", model_path=nowhere)
        plugin_settings.make_execution_config(settings)
        plugin_settings.make_refinement_config(settings)
        plugin_settings.make_config_without_model(settings, 1)
        plugin_settings.make_examination_config(settings)
    except ValueError as exc:
        # of several weights, one has to be above 0: that is said of all of them, and forbids none
        return row.full_name not in str(exc)
    return True


def _conditions(row: Setting) -> str:
    """When a setting applies, found by trying: every model type, every value of every choice."""
    verdicts = {kind: _applies_with(row, kind, {}) for kind in row.of}
    if all(verdicts.values()):
        return ""
    if any(verdicts.values()):
        return "to " + " and ".join(MODEL_TYPES[kind] for kind, applies in verdicts.items() if applies)
    found = []
    for other in SETTINGS.values():
        values = [
            value
            for value in ((True, False) if isinstance(other.default, bool) else other.choices())
            if all(_applies_with(row, kind, {other.path: value}) for kind in row.of)
        ]
        if values:
            found.append(f"with `{other.full_name} = {' or '.join(map(str, values))}`")
    if not found:
        raise ValueError(f"No single setting makes {row.path} apply: say here when it does.")
    return " or ".join(found)


def _applies_with(row: Setting, model_type: str, changed: dict[str, Any]) -> bool:
    return row.applies(lambda path: changed.get(path, SETTINGS[path].default), model_type)


def _defaults() -> str:
    lines = ["```ini"]
    for group in PluginSettings(SettingsRegistry()).groups:
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
