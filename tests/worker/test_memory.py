"""Memory that is free goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HOLES = """
import resource
from pathlib import Path
from ptychopinn_ptychodus.worker.memory import give_back_free_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

blocks = [bytearray(b"x" * 16384) for _ in range(8192)]
del blocks[:-1]  # the last one is above them all, and keeps the heap as large as it is
before = resident()
give_back_free_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems are not asked")
def test_holes_between_blocks_that_stay_go_back_to_the_system() -> None:
    said = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True).stdout
    assert int(said) > 100e6  # of 134
