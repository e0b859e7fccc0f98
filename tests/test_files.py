"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptychopinn_ptychodus.files import replacing

DYING = """
import os, signal, sys
from pathlib import Path
from ptychopinn_ptychodus.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half of a model")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_was_there_stays_until_the_block_has_ended_well(tmp_path: Path) -> None:
    target = tmp_path / "model.ckpt"
    target.write_bytes(b"old")
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    with pytest.raises(ZeroDivisionError), replacing(target) as file:
        file.write(b"newer" + bytes(1 // 0))
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["model.ckpt"]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere leftovers are left alone")
def test_what_a_killed_process_left_is_removed_by_the_next_write_once_it_is_old(tmp_path: Path) -> None:
    target, other = tmp_path / "model[1].ckpt", tmp_path / "x.model[1].ckpt"
    for path in (target, other):
        subprocess.run([sys.executable, "-c", DYING, str(path)], check=False)
    (left,) = tmp_path.glob(".model*.tmp")
    (of_other,) = tmp_path.glob(".x.*.tmp")
    with replacing(target) as file:
        file.write(b"new")
    assert left.exists(), "it may be of another machine, which is still writing"
    for path in (left, of_other):
        os.utime(path, (0, 0))
    with replacing(target) as file:
        file.write(b"new")
    assert names(tmp_path) == sorted([of_other.name, target.name])


def test_old_files_of_living_processes_and_of_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "model.ckpt"
    others = [
        f".model.ckpt.{os.getpid()}.{'0' * 32}.tmp",
        ".model.ckpt.notes.tmp",
        f".model.ckpt.999999999.{'0' * 31}.tmp",
        f"model.ckpt.999999999.{'0' * 32}.tmp",
    ]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    with replacing(target) as file:
        file.write(b"new")
    assert names(tmp_path) == sorted([*others, target.name])
