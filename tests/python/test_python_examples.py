"""What the page about Python, the docstrings, the script and the notebook show runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not (find_spec("torch") or find_spec("tensorflow")), reason="no framework is installed to train with"
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory: examples leave files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(find_spec("torch") is None, reason="the page trains with PyTorch")
def test_the_page_about_python_runs(somewhere: Path) -> None:
    page = ROOT / "docs" / "python.md"
    result = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert result.attempted > 10
    assert result.failed == 0


def test_every_function_of_the_interface_has_an_example_that_runs(somewhere: Path) -> None:
    from ptychopinn_ptychodus import api

    names: dict[str, object] = {"directory": somewhere}
    exec("".join(example.source for example in doctest.DocTestParser().get_examples(api.__doc__)), names)
    # train comes first, since others use its model
    functions = sorted(
        (name for name in api.__all__ if name.islower()), key=lambda name: (name != "train", name)
    )
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for name in functions:
        function = getattr(api, name)
        test = doctest.DocTestParser().get_doctest(function.__doc__, names, name, None, None)
        assert test.examples, f"{name} has no example"
        runner.run(test, clear_globs=False)
        names = test.globs
    assert runner.failures == 0


def test_the_docstrings_of_findings_run() -> None:
    module = importlib.import_module("ptychopinn_ptychodus.data.examination.findings")
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


def test_the_script_runs(somewhere: Path) -> None:
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "script.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "correlation" in done.stdout
    assert (somewhere / "object.png").stat().st_size > 0


def test_the_notebook_runs(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(somewhere)}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
