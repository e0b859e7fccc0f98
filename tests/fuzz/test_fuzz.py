"""As many damaged inputs as two minutes allow; ``fuzz.py`` by itself runs any number of them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SEED = 20
SECONDS, FEWEST, MOST = 90, 20, 300
"""Seconds, with making the sound files. On a busy machine there are fewer cases, the same ones first."""

LIMIT_S = 900


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="cases are forked, with limits that Linux keeps"
)
@pytest.mark.skipif(
    not (find_spec("torch") and find_spec("tensorflow")), reason="models of both engines are damaged"
)
def test_damaged_inputs(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, Path(__file__).with_name("fuzz.py"), "--directory", tmp_path / "work"),
            *(
                "--seed",
                str(SEED),
                "--cases",
                str(MOST),
                "--seconds",
                str(SECONDS),
                "--at-least",
                str(FEWEST),
            ),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
