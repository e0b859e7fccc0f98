"""What a run leaves behind is seen, and tests go on where they were, whatever else runs on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_ptychodus.testing import surroundings
from ptychopinn_ptychodus.testing.surroundings import Surroundings, contents


def _here() -> tuple[Any, ...]:
    return Path.cwd(), tempfile.tempdir, dict(os.environ)


@pytest.fixture
def nameless() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Room for a process whose name is not UTF-8."""
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        child.communicate()


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs Linux: a process that renames itself")
def test_a_process_may_have_any_name(
    nameless: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "GRACE_S", 0.0)
    code = "open('/proc/self/comm', 'wb').write(b'\\xff) Z'); print(flush=True); input()"
    before = _here()
    with Surroundings() as seen:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        nameless.append(child)
        assert child.stdout is not None
        child.stdout.readline()
    assert [line.split()[0] for line in seen.processes] == [str(child.pid)]
    assert _here() == before


def test_everything_is_restored_when_looking_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(directory: Path) -> dict[str, str]:
        raise PermissionError("as the test asked")

    monkeypatch.setattr(surroundings, "contents", fail)
    before = _here()
    with pytest.raises(PermissionError), Surroundings():
        assert _here() != before
    assert _here() == before


def test_a_file_that_vanishes_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gone", "kept"):
        (tmp_path / name).write_text(name)
    read = Path.read_bytes

    def remove_first(path: Path) -> bytes:
        if path.name == "gone":
            path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", remove_first)
    assert list(contents(tmp_path)) == ["kept"]
