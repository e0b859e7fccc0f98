"""Each broken library fails the check that is meant to find its fault, and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from broken import LIBRARIES
from shared_support import made_once

from ptychopinn_ptychodus.testing import ReconstructorLibraryContract
from ptychopinn_ptychodus.testing.declaration import Declaration

SLOW = {fault for fault, (_, _, contract) in LIBRARIES.items() if contract.get("headless")}
"""Of those that start Ptychodus, only the check itself is run."""


def run_the_checks(directory: Path) -> None:
    """Run ``broken.py``, and leave its report as ``report.xml``, and what it said."""
    report = directory / "report.xml"
    here = Path(__file__).parent
    quick = [f"broken.py::Test{fault}" for fault in LIBRARIES if fault not in SLOW]
    slow = [f"broken.py::Test{fault}::{LIBRARIES[fault][0]}" for fault in LIBRARIES if fault in SLOW]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", "--no-header"),
            *(f"--basetemp={directory / 'runs'}", f"--junitxml={report}", *quick, *slow),
        ],
        cwd=here,
        env={**inherited, "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    (directory / "said.txt").write_text(done.stdout)


@pytest.fixture(scope="session")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names of the checks that each fault has made fail."""
    directory = made_once(tmp_path_factory, "broken", run_the_checks)
    report = directory / "report.xml"
    print((directory / "said.txt").read_text())
    found: dict[str, set[str]] = {fault: set() for fault in LIBRARIES}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            fault = case.attrib["classname"].rpartition(".Test")[2]
            found[fault].add(case.attrib["name"].partition("[")[0])
    return found


@pytest.mark.parametrize("fault", LIBRARIES)
def test_the_check_finds_the_fault(fault: str, failures: dict[str, set[str]]) -> None:
    assert failures[fault] == {LIBRARIES[fault][0]}


CHECKS = {name for name in dir(ReconstructorLibraryContract) if name.startswith("test_")}


def test_every_check_finds_a_fault() -> None:
    """A check that nothing fails may check nothing."""
    assert {check for check, _, _ in LIBRARIES.values()} == CHECKS


def test_every_check_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "contract_suite.md").read_text(encoding="utf-8")
    tables = [line for line in page.splitlines() if line.startswith("| `")]
    documented = {f"test_{name}" for line in tables for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    settings = {f"test_{name}" for name in Declaration.__annotations__}
    assert settings <= documented
    assert documented - settings == CHECKS
