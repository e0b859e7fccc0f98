"""One framework never enters a process that works with the other; looking at model files takes neither.

Every check is in a fresh process, and in one where both are installed: that is where they could meet.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_ptychodus.backends.registry import get_engine

FRAMEWORKS = {
    "pytorch": ("torch", "lightning", "pytorch_lightning", "tensordict"),
    "tensorflow": ("tensorflow", "keras"),
}
ENGINES = tuple(FRAMEWORKS)
OTHER = {"pytorch": "tensorflow", "tensorflow": "pytorch"}

SCAN = """
from pathlib import Path
from ptychopinn_ptychodus.backends.registry import get_engine, guess_engine
from ptychopinn_ptychodus.config import ExecutionConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.data import simulation
from ptychopinn_ptychodus.workflows import backend_selector as selector

x, y = simulation.raster_positions(4, 4, 6.0, jitter=0.3, origin=35, seed=0)
object_ = simulation.make_object((96, 96), seed=0)
scan = simulation.simulate_scan(object_, simulation.make_probe(64), x, y, photons=1e6, seed=0)
quick = ExecutionConfig(accelerator="cpu", logger_backend=LOGGER)
config = TrainingConfig(
    model=ModelConfig(architecture=ARCHITECTURE, n_filters_scale=1),
    nepochs=1, batch_size=4, n_groups=8, subsample_seed=0, output_dir=OUTPUT, backend=BACKEND,
)
"""

TRAIN = """
train, test = scan.split(0.25, seed=0)
amplitude, phase, results = selector.run_cdi_example_with_backend(
    train, test, config, do_stitching=True, execution_config=quick
)
assert results["backend"] == BACKEND
"""

LOAD = """
for path in (MODEL, DIRECTORY):
    model, values = selector.load_inference_bundle_with_backend(path, config)
    assert values["backend"] == BACKEND
"""

PREDICT = """
container = scan.generate_grouped_data(64, 4, None, seed=0)
prediction = get_engine(BACKEND).predict(Path(MODEL), container, quick)
assert prediction.patches.shape == (16, 1, 64, 64)
"""

LOOK = """
import json
from pathlib import Path
from ptychopinn_ptychodus.backends.conversion import read_model
from ptychopinn_ptychodus.backends.registry import get_engine, guess_engine

for name in ("pytorch", "tensorflow"):
    assert get_engine(name).problem() is None
path = Path(MODEL)
engine = guess_engine(path)
assert engine.name == WRITER
assert engine.describe(path).engine == WRITER
assert engine.read_state(path).arrays
assert read_model(path).description.model.N == 64
"""

pytestmark = pytest.mark.skipif(
    any(get_engine(name).problem() is not None for name in ENGINES),
    reason="needs both frameworks: they can only meet where both are",
)


def imported(code: str, environment: dict[str, str] | None = None, **names: Any) -> set[str]:
    """The engines whose frameworks a fresh process has imported after running ``code``."""
    start = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    wanted = sum(FRAMEWORKS.values(), ())
    end = f"\nimport sys; print(*(name for name in {wanted!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", start + code + end],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    modules = done.stdout.rpartition("\n")[0].rpartition("\n")[-1].split()
    return {engine for engine, frameworks in FRAMEWORKS.items() if set(frameworks) & set(modules)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, set[str]]]:
    """``trained("pytorch")``: what a whole run has left, and the frameworks that took part; run once."""
    runs: dict[str, tuple[Path, set[str]]] = {}

    def trained(backend: str) -> tuple[Path, set[str]]:
        if backend not in runs:
            output = tmp_path_factory.mktemp(backend)
            found = imported(SCAN + TRAIN, **settings(backend, output))
            runs[backend] = (output, found)
        return runs[backend]

    return trained


def settings(backend: str, output: Path) -> dict[str, Any]:
    # the logger is the default one: what it brings along is what users get
    return {"BACKEND": backend, "OUTPUT": str(output), "ARCHITECTURE": "unrolled", "LOGGER": "csv"}


def model_file(directory: Path, backend: str) -> Path:
    return directory / {"pytorch": "model.ckpt", "tensorflow": "wts.h5.zip"}[backend]


Trained = Callable[[str], tuple[Path, set[str]]]
every_engine = pytest.mark.parametrize("backend", ENGINES)
every_writer = pytest.mark.parametrize("writer", ENGINES)


@every_engine
def test_training_imports_one_framework(trained: Trained, backend: str) -> None:
    assert trained(backend)[1] == {backend}


@every_engine
@every_writer
def test_opening_imports_one_framework_whoever_wrote_the_model(
    trained: Trained, backend: str, writer: str, tmp_path: Path
) -> None:
    directory, _ = trained(writer)
    code = SCAN + LOAD + (PREDICT if writer == backend else "")
    names: dict[str, Any] = {"MODEL": str(model_file(directory, writer)), "DIRECTORY": str(directory)}
    assert imported(code, **settings(backend, tmp_path), **names) == {backend}


@every_engine
def test_converting_imports_no_more_than_the_framework_that_it_is_for(
    trained: Trained, backend: str, tmp_path: Path
) -> None:
    code = (
        "from pathlib import Path\n"
        "from ptychopinn_ptychodus.backends.conversion import convert\n"
        "from ptychopinn_ptychodus.backends.registry import guess_engine\n"
        "convert(Path(MODEL), Path(TARGET), BACKEND)\n"
        "assert guess_engine(Path(TARGET)).name == BACKEND\n"
    )
    writer = OTHER[backend]
    model = model_file(trained(writer)[0], writer)
    found = imported(code, MODEL=str(model), TARGET=str(tmp_path / "model"), BACKEND=backend)
    assert found <= {backend}


@every_writer
def test_looking_at_a_model_imports_no_framework(trained: Trained, writer: str) -> None:
    assert imported(LOOK, MODEL=str(model_file(trained(writer)[0], writer)), WRITER=writer) == set()


def test_importing_the_package_imports_no_framework() -> None:
    code = (
        "import importlib\n"
        "for name in ('workflows.backend_selector', 'backends.conversion', 'backends.workflow',\n"
        "             'backends.lightning.engine', 'backends.lightning.components',\n"
        "             'backends.tensorflow.engine', 'backends.tensorflow.components'):\n"
        "    importlib.import_module('ptychopinn_ptychodus.' + name)\n"
    )
    assert imported(code) == set()


@pytest.mark.parametrize("keras_backend", ["torch", "jax"])
def test_keras_is_not_led_astray(tmp_path: Path, keras_backend: str) -> None:
    """Keras works on other frameworks too, and takes its own from the environment."""
    code = SCAN + "selector.train_cdi_model_with_backend(scan, None, config, quick)\n"
    found = imported(code, {"KERAS_BACKEND": keras_backend}, **settings("tensorflow", tmp_path))
    assert found == {"tensorflow"}
