"""A framework that is installed and cannot be imported, for both engines: what the dispatcher says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_support import require_engine

from ptychopinn_ptychodus import params
from ptychopinn_ptychodus.backends import TENSORFLOW_HINT, TORCH_HINT

ERRORS = ("ImportError", "OSError", "RuntimeError", "AttributeError")
CAUSE = "libfake.so.1: cannot open shared object file"
HINTS = {"PyTorch": TORCH_HINT, "TensorFlow": TENSORFLOW_HINT}

CODE = """
import json, os, sys
from ptychopinn_ptychodus.backends.framework import EngineUnavailableError
from ptychopinn_ptychodus.backends.registry import get_engine
from ptychopinn_ptychodus.config import ExecutionConfig, TrainingConfig
from ptychopinn_ptychodus.workflows import backend_selector as selector

backend, errors, said = sys.argv[1], sys.argv[2].split(","), []
config = TrainingConfig(backend=backend)
for os.environ["BROKEN"] in errors:
    for call in (
        lambda: selector.train_cdi_model_with_backend({}, None, config),
        lambda: selector.run_cdi_example_with_backend({}, None, config),
        lambda: selector.load_inference_bundle_with_backend("nowhere", config),
        lambda: get_engine(backend).train(None, None, config, ExecutionConfig(), model_path=None),
        lambda: get_engine(backend).predict(None, None, ExecutionConfig()),
        lambda: get_engine(backend).accelerators(),
    ):
        try:
            call()
        except EngineUnavailableError as exc:
            said.append([type(exc.__cause__).__name__, str(exc)])
print(json.dumps(said))
"""


def break_package(directory: Path, name: str) -> dict[str, str]:
    """A package that raises what the variable BROKEN names; the environment in which it is found first."""
    (directory / name).mkdir()
    (directory / name / "__init__.py").write_text(
        f"import builtins, os\nraise getattr(builtins, os.environ.get('BROKEN', 'OSError'))({CAUSE!r})\n"
    )
    package = Path(params.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{package}"}


@pytest.mark.parametrize(
    ("backend", "package", "errors"),
    [
        ("pytorch", "torch", ERRORS),
        ("pytorch", "lightning", ("AttributeError",)),
        ("pytorch", "tensordict", ("ImportError",)),
        ("tensorflow", "tensorflow", ERRORS),
        ("tensorflow", "keras", ("RuntimeError",)),
    ],
)
def test_broken_package_is_an_unavailable_engine_with_its_cause(
    tmp_path: Path, backend: str, package: str, errors: tuple[str, ...]
) -> None:
    engine = require_engine(backend)
    done = subprocess.run(
        [sys.executable, "-c", CODE, backend, ",".join(errors)],
        env=break_package(tmp_path, package),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert [cause for cause, _ in said] == [error for error in errors for _ in range(6)]
    for cause, message in said:
        assert f"{engine.framework} backend selected" in message
        assert "unavailable" in message
        # TensorFlow itself imports keras
        name = "tensorflow" if package == "keras" else package
        assert f"{name} is installed and cannot be imported ({cause}: {CAUSE})" in message
        assert HINTS[engine.framework] in message


def test_installation_lines_name_the_index_and_the_checkout() -> None:
    assert 'pip install "ptychopinn-ptychodus[torch]"' in TORCH_HINT
    assert "pip install .[torch]" in TORCH_HINT
    assert 'pip install "ptychopinn-ptychodus[tensorflow]"' in TENSORFLOW_HINT
    assert "pip install .[tensorflow]" in TENSORFLOW_HINT
