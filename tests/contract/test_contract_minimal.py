"""The contract suite on the smallest libraries there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from minimal import MinimalLibrary
from ptychodus.api.observer import Observable, Observer
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.testing import Contract, HeadlessChecks, QueryChecks, ReconstructorLibraryContract
from ptychopinn_ptychodus.testing.application import Application
from ptychopinn_ptychodus.testing.bench import Bench


def test_the_suite_imports_neither_a_framework_nor_qt() -> None:
    unwanted = ("torch", "lightning", "tensorflow", "keras", "jax", "PyQt5", "ptychodus.model")
    code = f"""
import sys
import ptychopinn_ptychodus.testing
print([name for name in {unwanted!r} if name in sys.modules])
print([name for name in sys.modules if name.startswith("ptychopinn_ptychodus.plugin")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


class TestMinimal(ReconstructorLibraryContract):
    """A trainable reconstructor, and one that is not."""

    library = MinimalLibrary

    def configure(self, settings: SettingsRegistry) -> None:
        settings["Minimal"].parameters()["Epochs"].set_value(2)


class TestLimit(Contract):
    """What starts Ptychodus is given the time that the contract allows."""

    library = MinimalLibrary
    run_limit_s = 0.01
    application = HeadlessChecks.application

    def test_a_command_that_takes_longer_is_ended(self, application: Application) -> None:
        assert application.list_reconstructors().returncode is None


@pytest.mark.parametrize("name", ["reconstructors", "frameworks", "training_sources"])
def test_a_string_is_no_sequence_of_names(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine\.{name} = 'PINN' .* \('PINN',\)"):
        type("Mine", (Contract,), {name: "PINN"})


class Choosy(MinimalLibrary, Observer):
    """It looks at one setting as soon as it changes, and not at all of its values."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.settings.shuffle.add_observer(self)

    def _update(self, observable: Observable) -> None:
        if not self.settings.shuffle.get_value():
            raise RuntimeError("as the test asked")


def test_the_setting_that_raises_is_the_one_that_is_named(tmp_path: Path) -> None:
    class Checks(QueryChecks):
        library = Choosy

    with pytest.raises(AssertionError) as caught:
        Checks().test_queries_survive_any_setting(Bench(Checks(), tmp_path).case("Three_Steps"))
    named = [line for line in str(caught.value).splitlines() if "as the test asked" in line]
    assert named
    assert all("Minimal.Shuffle = False" in line for line in named)
