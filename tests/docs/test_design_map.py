"""The map of files in docs/design.md has every module of the package, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "ptychopinn_ptychodus"


def _mapped() -> list[str]:
    """Paths of the modules in the map: what a line begins with, in the directory that it is below."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = page.partition(f"```\n{PACKAGE}/\n")[2].partition("```")[0]
    directories = {0: PACKAGE}
    found: list[str] = []
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 0:
            break  # what follows is not of the package
        directories = {depth: name for depth, name in directories.items() if depth < indent}
        above = directories[max(directories)]
        directory = re.match(r"\s+(\w+)/(\s|$)", line)
        names = re.match(r"\s+((\w+\.py(, )?)+)(\s|$)", line)
        if directory:
            directories[indent] = f"{above}/{directory[1]}"
        elif names:
            found += [f"{above}/{name}" for name in re.findall(r"\w+\.py", names[1])]
    return found


def test_every_module_is_in_the_map() -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")]
    # a package's own file is what the line of its directory stands for
    expected = sorted(path for path in modules if not path.endswith("/__init__.py"))
    assert sorted(path for path in _mapped() if not path.endswith("/__init__.py")) == expected
