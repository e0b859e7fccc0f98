"""What all tests have in common."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def remembered_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep models that no directory is named for out of the user's own, here and in child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


def pytest_collection_finish() -> None:
    """Spare the tests of this process two things that take time and show nothing.

    The collector of reference cycles would look at the million objects of all that the collected tests have
    imported whenever it looks at all, and every training with TensorFlow asks it to. And the thread of each
    ``ModelCore`` that ends would wait for a second for work that does not come.
    """
    gc.collect()
    gc.freeze()
    manager = sys.modules.get("ptychodus.model.task_manager")  # no test run imports it for this
    if manager is not None:
        setattr(manager.TaskManager, "WAIT_TIME_S", 0.05)  # noqa: B010 (it is Final)
