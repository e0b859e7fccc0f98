"""What a plugin imports is not taken for what Ptychodus itself imports."""

from __future__ import annotations

from pathlib import Path

import ptychodus
import pytest

from ptychopinn_ptychodus.testing.application import stock

PLUGIN = """
import contextlib
with contextlib.redirect_stdout(None):
    import this  # nothing else imports it

def register_plugins(registry):
    pass
"""


def test_a_framework_of_a_plugin_is_not_ptychodus_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = Path(str(ptychodus.__file__)).parent
    package = tmp_path / "ptychodus"  # the installed one, with one more place for plugins
    (package / "plugins").mkdir(parents=True)
    (package / "plugins" / "another.py").write_text(PLUGIN)
    (package / "__init__.py").write_text(
        f"from pathlib import Path\n__path__.insert(0, {str(installed)!r})\n"
        f"exec(Path({str(installed / '__init__.py')!r}).read_text())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    stock.cache_clear()
    try:
        found = stock()
    finally:
        stock.cache_clear()
    assert "ptychodus.plugins.another" not in found.modules
    assert "this" not in found.modules
    assert "ptychodus.model.core" in found.modules
