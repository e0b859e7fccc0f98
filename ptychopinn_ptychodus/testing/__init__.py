"""Contract suite: whether a Ptychodus ``ReconstructorLibrary`` works in Ptychodus.

For authors of reconstructor plugins. A test file of a few lines has pytest run every check::

    from ptychopinn_ptychodus.testing import ReconstructorLibraryContract
    from my_plugin import MyLibrary

    class TestMyLibrary(ReconstructorLibraryContract):
        library = MyLibrary

The checks know Ptychodus and nothing of any plugin, this package's own included. A failure says what the
application would do, and what to change. See ``docs/contract_suite.md``.

:mod:`.engine` has the same for authors of engines of this package.
"""

import pytest

pytest.register_assert_rewrite("ptychopinn_ptychodus.testing.checks", "ptychopinn_ptychodus.testing.engine")

from .checks.headless import HeadlessChecks  # noqa: E402 (after the rewriting of their assertions)
from .checks.models import ModelChecks  # noqa: E402 (after the rewriting of their assertions)
from .checks.names import NameChecks  # noqa: E402 (after the rewriting of their assertions)
from .checks.queries import QueryChecks  # noqa: E402 (after the rewriting of their assertions)
from .checks.reconstruction import ReconstructionChecks  # noqa: E402 (after the rewriting of their assertions)
from .checks.training import TrainingChecks  # noqa: E402 (after the rewriting of their assertions)
from .contract import Contract  # noqa: E402 (after the rewriting of their assertions)

__all__ = [
    "Contract",
    "HeadlessChecks",
    "ModelChecks",
    "NameChecks",
    "QueryChecks",
    "ReconstructionChecks",
    "ReconstructorLibraryContract",
    "TrainingChecks",
]


class ReconstructorLibraryContract(  # pytest runs the checks of the last one first
    HeadlessChecks, ModelChecks, ReconstructionChecks, TrainingChecks, QueryChecks, NameChecks
):
    """Every check. Derive a class named ``Test…`` from it and set ``library``; see :class:`.Contract`."""
