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


@pytest.mark.skipif(LightningEngine().problem() is not None, reason="PyTorch is not installed")
class TestLightning(EngineContract):
    engine = LightningEngine


@pytest.mark.skipif(TensorFlowEngine().problem() is not None, reason="TensorFlow is not installed")
class TestTensorFlow(EngineContract):
    engine = TensorFlowEngine


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that has the example as ``site``, installed, and as ``source``."""
    if find_spec("hatchling") is None or find_spec("pip") is None:
        pytest.skip("the build backend is not installed")
    directory = tmp_path_factory.mktemp("example")
    shutil.copytree(ROOT / "examples" / "engine", directory / "source")
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", "site", "./source"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def _pytest(installed: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process to which the example is one more installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    path = (str(installed / "site"), environment.get("PYTHONPATH"))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    options = ("-p", "no:cacheprovider", "-q", "--tb=short", f"--basetemp={installed / 'runs'}")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, arguments)],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_example_passes_once_it_is_installed(installed: Path) -> None:
    done = _pytest(installed, "-rs", installed / "source")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert re.search(r"\b\d{2,} passed, 1 skipped", done.stdout), done.stdout
    assert "does not hand over its models" in done.stdout


CHECKS = {name for name in dir(EngineContract) if name.startswith("test_")}


def test_every_check_finds_a_fault(installed: Path) -> None:
    """A check that nothing fails may check nothing."""
    shutil.copy(Path(__file__).with_name("broken_engines.py"), installed)
    faults = {check: "".join(map(str.title, check.split("_")[1:])) for check in CHECKS}
    chosen = [f"broken_engines.py::Test{fault}::{check}" for check, fault in faults.items()]
    done = _pytest(installed, "-rf", *chosen)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "passed" not in done.stdout.splitlines()[-1], done.stdout
    failed = re.findall(r"^FAILED broken_engines\.py::Test\w+::(test_\w+)", done.stdout, flags=re.MULTILINE)
    assert set(failed) == CHECKS, done.stdout


def test_every_check_is_documented() -> None:
    page = (ROOT / "docs" / "engine_suite.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    documented = {f"test_{name}" for name in rows} - {
        f"test_{name}" for name in EngineContract.__annotations__
    }
    assert documented == CHECKS
