"""What README, pages and examples refer to is there: files, headings, settings."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.plugin import settings as plugin_settings
from ptychopinn_ptychodus.plugin.settings import PluginSettings

ROOT = Path(__file__).parents[2]
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "specs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.ini"))


def _anchors(page: Path) -> set[str]:
    """What headings are called in links, on the pages of a repository."""
    anchors: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        again = sum(anchor == plain for anchor in anchors)
        anchors.append(plain)
        if again:
            anchors.append(f"{plain}-{again}")
    return set(anchors)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    settings = _settings()
    named = re.findall(r"(PtychoPINNPlugin\w+)\.([A-Z]\w+)", page.read_text(encoding="utf-8"))
    unknown = {f"{group}.{name}" for group, name in named if name not in settings.get(group, {})}
    assert unknown == set()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_set_what_there_is_to_what_is_allowed(example: tuple[Path, str]) -> None:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(example, encoding="utf-8")
    settings = PluginSettings(SettingsRegistry())
    groups = {group.name: group.group.parameters() for group in settings.groups}
    assert parser["Processing"]["Algorithm"] in ("ptychopinn-plugin_pinn", "ptychopinn-plugin_supervised")
    for group in set(parser.sections()) - {"Processing"}:
        for name, value in parser[group].items():
            groups[group][name].set_value_from_string(value)
    nowhere = Path()
    plugin_settings.make_training_request(
        settings, "pinn", backend="pytorch", input_path=nowhere, output_path=nowhere
    )
    plugin_settings.make_reconstruction_request(settings, backend="pytorch", model_path=nowhere)
    plugin_settings.make_execution_config(settings)


def _settings() -> dict[str, set[str]]:
    groups = PluginSettings(SettingsRegistry()).groups
    return {group.name: set(group.group.parameters()) for group in groups}
