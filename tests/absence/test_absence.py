"""A framework that is not there: said plainly, and no matter to the engine of the other one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from absence_support import Environment
from ptychodus.api.io import load_product

from ptychopinn_ptychodus.backends import TENSORFLOW_HINT, TORCH_HINT
from ptychopinn_ptychodus.backends.registry import get_engine

RECONSTRUCTORS = {"ptychopinn-plugin_pinn", "ptychopinn-plugin_supervised"}
SELECTED = {"pytorch": "PyTorch backend selected", "tensorflow": "TensorFlow backend selected"}
HINTS = {"pytorch": TORCH_HINT, "tensorflow": TENSORFLOW_HINT}
MODULES = {"pytorch": ("torch", "lightning", "tensordict"), "tensorflow": ("tensorflow", "keras")}

Environments = Callable[..., Environment]
Directories = Callable[[str], Path]

each = pytest.mark.parametrize(("missing", "other"), [("pytorch", "tensorflow"), ("tensorflow", "pytorch")])
absences = pytest.mark.parametrize(
    "missing", [("pytorch",), ("tensorflow",), ("pytorch", "tensorflow")], ids="+".join
)


def model_name(backend: str) -> str:
    return f"model{get_engine(backend).model_suffix}"


def reconstructed(target: Path) -> np.ndarray:
    array: np.ndarray = load_product(target / "product.000100.h5").object_.get_array()
    assert np.isfinite(array).all()
    assert np.ptp(np.abs(array)) > 0, "the flat object of the input came back"
    return array


@absences
def test_frameworks_are_gone_and_the_reconstructors_are_listed(
    environment: Environments, missing: tuple[str, ...]
) -> None:
    done = environment(*missing).run(
        "-c",
        "import json, sys\n"
        "from importlib.metadata import packages_distributions\n"
        "from importlib.util import find_spec\n"
        "from ptychodus.model import ModelCore\n"
        "from ptychopinn_ptychodus.backends.registry import get_engine, list_engines\n"
        "with ModelCore() as model:\n"
        "    listed = list(model.workflow_api.available_reconstructors())\n"
        f"modules = {MODULES!r}\n"
        "distributed = packages_distributions()\n"  # which reads every distribution
        "print(json.dumps({'listed': listed,\n"
        "    'found': [engine for engine, names in modules.items() for name in names if find_spec(name)],\n"
        "    'known': [engine for engine, names in modules.items() for name in names\n"
        "              if name in distributed],\n"
        "    'problems': {name: get_engine(name).problem() for name in list_engines()}}))",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert set(answer["listed"]) >= RECONSTRUCTORS
    assert not set(missing) & {*answer["found"], *answer["known"]}
    assert {name for name, problem in answer["problems"].items() if problem} == set(missing)


@each
def test_selected_and_missing_is_an_error_that_says_what_to_install(
    environment: Environments, directory: Directories, missing: str, other: str
) -> None:
    path = directory(missing)
    done = environment(missing).ptychodus("train", path, path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert SELECTED[missing] in done.stdout
    assert HINTS[missing] in done.stdout
    assert not list(path.glob("model*")), "another engine has stood in"


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_installed_and_broken_is_an_error_with_the_cause(
    environment: Environments, directory: Directories, tmp_path: Path, backend: str
) -> None:
    """Of a framework that is there, but raises when it is imported."""
    package = tmp_path / "first" / MODULES[backend][0]
    package.mkdir(parents=True)
    cause = "libfake.so.1: cannot open shared object file"
    (package / "__init__.py").write_text(f"raise OSError({cause!r})\n")
    path = directory(backend)
    done = environment().ptychodus("train", path, path, first=package.parent)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{SELECTED[backend]}, but it is unavailable" in done.stdout
    assert f"OSError: {cause}" in done.stdout
    assert HINTS[backend] in done.stdout
    assert not list(path.glob("model*")), "another engine has stood in"


@each
def test_the_other_engine_keeps_working(trained: Directories, missing: str, other: str) -> None:
    path = trained(other)  # whose commands have ended well, without the framework that is missing
    assert [model.name for model in path.glob("model*")] == [model_name(other)]
    reconstructed(path / "out")


@each
def test_auto_takes_the_other_engine(
    environment: Environments, directory: Directories, missing: str, other: str
) -> None:
    path = directory("auto")
    done = environment(missing).ptychodus("train", path, path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [model.name for model in path.glob("model*")] == [model_name(other)]


@each
def test_a_model_of_the_missing_engine_is_converted_and_applied(
    environment: Environments, directory: Directories, trained: Directories, missing: str, other: str
) -> None:
    """To the same result as with the engine that wrote it."""
    source, path = trained(missing), directory("auto")
    # the application looks for the suffix of the engine that it has; what the file is, its content says
    shutil.copy(source / model_name(missing), path / model_name(other))
    done = environment(missing).ptychodus("reconstruct", path, path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    expected = reconstructed(source / "out")
    np.testing.assert_allclose(reconstructed(path / "out"), expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("backend", ["auto", "pytorch", "tensorflow"])
def test_without_any_framework_training_says_what_to_install(
    environment: Environments, directory: Directories, backend: str
) -> None:
    path = directory(backend)
    done = environment("pytorch", "tensorflow").ptychodus("train", path, path)
    assert done.returncode == 1, done.stdout + done.stderr
    for hint in [HINTS[backend]] if backend in HINTS else HINTS.values():
        assert hint in done.stdout
    assert SELECTED.get(backend, "No framework is installed") in done.stdout


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_without_any_framework_a_model_is_described_but_not_applied(
    environment: Environments, directory: Directories, trained: Directories, backend: str
) -> None:
    path = directory(backend)
    model = shutil.copy(trained(backend) / model_name(backend), path)
    bare = environment("pytorch", "tensorflow")
    done = bare.ptychodus("reconstruct", path, path / "out")
    assert done.returncode == 1, done.stdout + done.stderr
    assert HINTS[backend] in done.stdout
    assert not list((path / "out").glob("*.h5"))
    done = bare.run(
        "-c",
        "from pathlib import Path\nfrom ptychopinn_ptychodus.backends.registry import guess_engine\n"
        f"path = Path({str(model)!r})\nprint(guess_engine(path).describe(path).engine)",
    )
    assert done.stdout.strip() == backend, done.stderr


@absences
def test_the_dispatcher_refuses_what_is_missing(environment: Environments, missing: tuple[str, ...]) -> None:
    done = environment(*missing).run(
        "-c",
        "import json\n"
        "from ptychopinn_ptychodus.config import TrainingConfig\n"
        "from ptychopinn_ptychodus.workflows import backend_selector as selector\n"
        "errors = {}\n"
        f"for backend in {missing!r}:\n"
        "    config = TrainingConfig(backend=backend)\n"
        "    for call in (lambda: selector.train_cdi_model_with_backend({}, None, config),\n"
        "                 lambda: selector.run_cdi_example_with_backend({}, None, config),\n"
        "                 lambda: selector.load_inference_bundle_with_backend('nowhere', config)):\n"
        "        try: call()\n"
        "        except RuntimeError as exc: errors.setdefault(backend, []).append(str(exc))\n"
        "print(json.dumps(errors))",
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    for backend in missing:
        assert len(errors[backend]) == 3
        for error in errors[backend]:
            assert SELECTED[backend] in error
            assert "unavailable" in error
            assert HINTS[backend] in error
