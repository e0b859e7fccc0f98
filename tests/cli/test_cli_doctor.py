"""``doctor``: a healthy installation passes; for each fault there is a remedy, and exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_ptychodus.cli import doctor, main
from ptychopinn_ptychodus.cli.session import KEYS

HEALTHY: dict[str, Any] = {
    "application": {
        "folders": ["/env/ptychodus/plugins"],
        "shim": ["/env/ptychodus/plugins"],
        "reconstructors": sorted(KEYS.values()),
        "frameworks": [],
    },
    "engines": {"pytorch": {"title": "PyTorch", "problem": None, "devices": ["cpu"], "seconds": 1.0}},
}


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The faults that doctor finds when its children answer as told."""

    def examine(**answers: Any) -> list[doctor.Finding]:
        told = {**HEALTHY, **answers}
        monkeypatch.setattr(doctor, "_ask", told.__getitem__)
        return [finding for finding in doctor.examine() if finding.state == doctor.FAULT]

    return examine


def test_this_installation_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    for words in (
        "ptychodus",
        "torch",
        "ptychopinn-plugin_pinn",
        "Engine pytorch",
        "accelerators: ",
        "PyQt5",
    ):
        assert words in said
    assert "Everything that is needed works." in said


def test_doctor_examines_an_installation_without_numpy() -> None:
    code = "import sys, ptychopinn_ptychodus.cli.doctor as d; print({'numpy', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_without_a_framework_doctor_says_how_to_install_one(tmp_path: Path) -> None:
    # an interpreter in which torch cannot be found, in the children too
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ptychopinn_ptychodus.cli", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert 'remedy: pip install "ptychopinn-ptychodus[torch]"' in done.stdout
    assert "Everything that is needed works." not in done.stdout


def test_healthy_answers_make_no_fault(faults: Any) -> None:
    assert faults() == []


def test_missing_shim(faults: Any) -> None:
    found = faults(application={**HEALTHY["application"], "shim": [], "reconstructors": []})
    assert [finding.what for finding in found] == ["Plugin shim", "Reconstructors"]
    assert "/env/ptychodus/plugins" in found[0].detail
    assert "pip install" in found[0].remedy


def test_shim_in_a_layer_that_ptychodus_does_not_look_into(
    faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = tmp_path / "ptychodus" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / doctor.SHIM).touch()
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda name: str(tmp_path))
    found = faults(application={**HEALTHY["application"], "shim": [], "reconstructors": []})
    assert str(plugins) in found[0].detail
    assert "--ignore-installed" in found[0].remedy
    assert "ptychopinn-ptychodus train" in found[0].remedy


def test_a_reconstructor_that_is_not_listed(faults: Any) -> None:
    found = faults(application={**HEALTHY["application"], "reconstructors": [KEYS["PINN"]]})
    assert "Supervised" in found[0].detail
    assert found[0].remedy


def test_one_working_engine_is_enough(faults: Any) -> None:
    broken = {"title": "TensorFlow", "problem": "not installed", "devices": [], "seconds": 0.0}
    assert faults(engines={**HEALTHY["engines"], "tensorflow": broken}) == []
    assert [finding.what for finding in faults(engines={"tensorflow": broken})] == ["Engine tensorflow"]


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
