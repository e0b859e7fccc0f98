"""docs/settings.md is what the script makes of the table of settings, and leaves none of them out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.plugin.settings import PluginSettings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_script_writes(page: str, tmp_path: Path) -> None:
    written = tmp_path / "settings.md"
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "settings_page.py", "--output", written]
    subprocess.run(command, check=True)
    assert written.read_text(encoding="utf-8") == page, "run python scripts/settings_page.py"


def test_every_setting_has_an_entry_and_a_default(page: str) -> None:
    entries = set(re.findall(r"^`(\w+\.\w+)`: default `", page, flags=re.MULTILINE))
    sections = re.findall(r"^\[(\w+)\]\n((?:\w+ = .+\n)+)", page, flags=re.MULTILINE)
    defaults = {
        f"{group}.{line.split(' = ')[0]}": line.split(" = ")[1]
        for group, lines in sections
        for line in lines.splitlines()
    }
    settings = {
        f"{group.name}.{name}": parameter.get_value_as_string()
        for group in PluginSettings(SettingsRegistry()).groups
        for name, parameter in group.group.parameters().items()
    }
    assert entries == set(settings)
    assert defaults == settings
