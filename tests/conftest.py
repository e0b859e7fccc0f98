"""What all tests have in common."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Leave what the collected tests have imported to itself, which is there for as long as this process is.

    The collector of reference cycles would look at these million objects again whenever it looks at all, and
    every training with TensorFlow asks it to.
    """
    gc.collect()
    gc.freeze()
