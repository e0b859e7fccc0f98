"""The contract suite on the smallest libraries there are."""

from __future__ import annotations

import subprocess
import sys

from minimal import MinimalLibrary
from ptychodus.api.settings import SettingsRegistry

from ptychopinn_ptychodus.testing import ReconstructorLibraryContract


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
