"""The suite for engines: both of this package, and the worked example, which is installed by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ptychopinn_ptychodus.backends.lightning.engine import LightningEngine
from ptychopinn_ptychodus.backends.tensorflow.engine import TensorFlowEngine
from ptychopinn_ptychodus.testing.engine import EngineContract

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "engine"


@pytest.mark.skipif(LightningEngine().problem() is not None, reason="PyTorch is not installed")
class TestLightning(EngineContract):
    engine = LightningEngine


@pytest.mark.skipif(TensorFlowEngine().problem() is not None, reason="TensorFlow is not installed")
class TestTensorFlow(EngineContract):
    engine = TensorFlowEngine


@pytest.mark.skipif(
    find_spec("hatchling") is None or find_spec("pip") is None, reason="the build backend is not installed"
)
def test_the_example_passes_once_it_is_installed(tmp_path: Path) -> None:
    """By its own entry point, in a process that sees it as one more installed package."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source)
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    _run(sys.executable, "-m", "pip", "install", *offline, "--target", site, source, cwd=tmp_path)
    output = _run(
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", source),
        cwd=tmp_path,
        PYTHONPATH=os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))),
    )
    assert re.search(r"\b\d{2,} passed, 1 skipped", output), output
    assert "does not hand over its models" in output


def test_every_check_is_documented() -> None:
    page = (ROOT / "docs" / "engine_suite.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    documented = {f"test_{name}" for name in rows} - {
        f"test_{name}" for name in EngineContract.__annotations__
    }
    assert documented == {name for name in dir(EngineContract) if name.startswith("test_")}


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
