"""``doctor``: a healthy installation passes; for each fault there is a remedy, and exit code 1."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_ptychodus.cli import doctor, main
from ptychopinn_ptychodus.cli.inspection import SHIM
from ptychopinn_ptychodus.ptychodus_io.names import KEYS

HEALTHY: dict[str, Any] = {
    "application": {
        "folders": ["/env/ptychodus/plugins"],
        "shim": ["/env/ptychodus/plugins"],
        "reconstructors": sorted(KEYS.values()),
        "frameworks": [],
    },
    "engines": {
        "pytorch": {"title": "PyTorch", "missing": None, "install": "pip install torch", "broken": None},
        "tensorflow": {"title": "TF", "missing": None, "install": "pip install tensorflow", "broken": None},
    },
    "engine pytorch": {"devices": ["cpu"], "seconds": 1.0},
    "engine tensorflow": {"devices": ["cpu"], "seconds": 2.0},
}


def without(*names: str) -> dict[str, Any]:
    """Engines, the named ones without their framework."""
    return {
        name: {**engine, "missing": "not installed" if name in names else None}
        for name, engine in HEALTHY["engines"].items()
    }


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The faults that doctor finds when its children answer as told."""

    def examine(**answers: Any) -> list[doctor.Check]:
        told = {**HEALTHY, **{question.replace("_", " "): answer for question, answer in answers.items()}}
        monkeypatch.setattr(doctor, "_ask", lambda *question: told[" ".join(question)])
        return [check for check in doctor.examine() if check.state == doctor.FAULT]

    return examine


def test_this_installation_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    for words in (
        "ptychodus",
        "torch",
        "tensorflow",
        "keras",
        "ptychopinn-plugin_pinn",
        "Engine pytorch",
        "Engine tensorflow",
        "accelerators: ",
        "PyQt5",
    ):
        assert words in said
    assert "Everything that is needed works." in said


_LACKING = """
import importlib.util, sys
MISSING = set({missing!r})
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in MISSING else find(name, *rest)
"""


def lacking(directory: Path, *missing: str) -> dict[str, str]:
    """Variables for an interpreter, and its children, that lacks these modules."""
    (directory / "sitecustomize.py").write_text(_LACKING.format(missing=missing))
    places = [str(directory), str(Path(doctor.__file__).parents[2])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


@pytest.mark.parametrize(
    "missing", [["rich"], list(doctor.NEEDED)], ids=["without-rich", "without-any-dependency"]
)
def test_doctor_names_every_package_that_is_missing(missing: list[str], tmp_path: Path) -> None:
    """The frameworks are missing as well: it then answers within a second or two."""
    frameworks = ("torch", "lightning", "tensordict", "tensorflow", "keras")
    done = subprocess.run(
        [sys.executable, "-m", "ptychopinn_ptychodus.cli", "doctor"],
        env=lacking(tmp_path, *frameworks, *(doctor.NEEDED[name] for name in missing)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    for name in doctor.NEEDED:
        line = rf"^{name}: not installed\n  remedy: pip install \"{name}\b"
        remedy = re.search(line, done.stdout, re.MULTILINE)
        assert (remedy is not None) == (name in missing), done.stdout + done.stderr
    assert "Engines: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_doctor_looks_for_all_that_the_package_requires() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    required = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    assert set(doctor.NEEDED) == {line.partition(">=")[0] for line in required}


@pytest.mark.parametrize("missing", [["torch", "tensorflow"], ["torch"], ["tensorflow"]])
def test_without_a_framework_doctor_says_how_to_install_one(missing: list[str], tmp_path: Path) -> None:
    for name in {"torch", "tensorflow"} - set(missing):
        pytest.importorskip(name)
    # an interpreter in which it cannot be found, in the children too
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name in {missing} else find(name, *rest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ptychopinn_ptychodus.cli", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    for name in missing:  # with its own line, whether that is a fault or not
        assert f'pip install "ptychopinn-ptychodus[{name}]"' in done.stdout
    assert ("Everything that is needed works." in done.stdout) == (len(missing) == 1)
    assert ("remedy: pip install" in done.stdout) == (len(missing) == 2)
    assert done.returncode == (1 if len(missing) == 2 else 0), done.stdout


def test_healthy_answers_make_no_fault(faults: Any) -> None:
    assert faults() == []


def test_missing_shim(faults: Any) -> None:
    found = faults(application={**HEALTHY["application"], "shim": [], "reconstructors": []})
    assert [check.what for check in found] == ["Plugin shim", "Reconstructors"]
    assert "/env/ptychodus/plugins" in found[0].detail
    assert "pip install" in found[0].remedy


def test_shim_in_a_layer_that_ptychodus_does_not_look_into(
    faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = tmp_path / "ptychodus" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / SHIM).touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    found = faults(application={**HEALTHY["application"], "shim": [], "reconstructors": []})
    assert str(plugins) in found[0].detail
    assert "--ignore-installed" in found[0].remedy
    assert "ptychopinn-ptychodus train" in found[0].remedy


def test_a_reconstructor_that_is_not_listed(faults: Any) -> None:
    found = faults(application={**HEALTHY["application"], "reconstructors": [KEYS["PINN"]]})
    assert "Supervised" in found[0].detail
    assert found[0].remedy


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_one_missing_framework_is_no_fault(faults: Any, name: str) -> None:
    assert faults(engines=without(name)) == []


def test_without_any_framework_one_is_asked_for(faults: Any) -> None:
    (found,) = faults(engines=without("pytorch", "tensorflow"))
    assert found.what == "Engines"
    assert found.remedy == "pip install torch or pip install tensorflow"


def test_a_broken_engine_is_a_fault_beside_one_that_works(faults: Any) -> None:
    """It is installed, ``auto`` may choose it, and then it fails."""
    (found,) = faults(engine_tensorflow="ImportError: libcudart.so (exit code 1)")
    assert found.what == "Engine tensorflow"
    assert "libcudart.so" in found.detail
    assert "pip install tensorflow" in found.remedy
    assert "PtychoPINNPluginModel.Backend" in found.remedy
    broken = {"title": "abacus", "missing": None, "install": None, "broken": "RuntimeError: no beads"}
    (found,) = faults(engines={**HEALTHY["engines"], "abacus": broken})
    assert (found.what, "no beads" in found.detail) == ("Engine abacus", True)
    assert found.remedy


@pytest.mark.parametrize("subject", ["application", "engines"])
def test_a_child_that_fails_is_a_fault_with_a_remedy(faults: Any, subject: str) -> None:
    found = faults(**{subject: "ImportError: no such library (exit code 1)"})
    assert len(found) == 1
    assert "ImportError" in found[0].detail
    assert "pip install" in found[0].remedy


def test_a_child_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHILD_TIMEOUT_S", 0.01)
    assert "no answer" in str(doctor._ask("engines"))


def test_what_a_dying_child_said_is_told() -> None:
    assert "KeyError" in str(doctor._ask("nonsense"))
    assert "Unknown engine 'abacus'" in str(doctor._ask("engine", "abacus"))
