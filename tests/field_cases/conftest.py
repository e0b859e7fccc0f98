"""Runs in one process, a model of the sound scan, and the shared collection of cases where it is there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from field_scans import Scan, sound_scan
from field_support import Outcome, in_one_process, train_and_reconstruct

SHARED = Path(__file__).resolve().parents[3] / "shared" / "fieldcases" / "make_cases.py"


@pytest.fixture(autouse=True)
def one_process() -> Iterator[None]:
    """No child process for each run; of these tests only, so not for the whole session."""
    with in_one_process():
        yield


@pytest.fixture(scope="session")
def scan() -> Scan:
    """Nothing wrong with it."""
    return sound_scan()


@pytest.fixture(scope="session")
def sound(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What becomes of it, its model included: what the others are compared with."""
    directory = tmp_path_factory.mktemp("sound")
    data = scan.write(directory / "scan")
    with in_one_process():
        return train_and_reconstruct(data, data, directory / "model")


@pytest.fixture(scope="session")
def make_cases() -> ModuleType:
    """The script that makes the shared cases."""
    if not SHARED.is_file():
        pytest.skip(f"needs the shared field cases, {SHARED}")
    spec = importlib.util.spec_from_file_location("make_cases", SHARED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
