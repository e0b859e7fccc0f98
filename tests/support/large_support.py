"""Everything large: what is in memory for a small scan is in files, and is let go of again and again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from ptychopinn_ptychodus.data import large_arrays


@contextmanager
def in_files(directory: Path) -> Iterator[None]:
    """Any array that may be in a file is in one, in ``directory``."""
    directory.mkdir(exist_ok=True)
    with (
        mock.patch.object(large_arrays, "MOST_IN_MEMORY", 0),
        mock.patch.object(large_arrays, "BLOCK", 3 * 64 * 64 * 4),
        mock.patch.object(large_arrays, "_RESIDENT", 5 * 64 * 64 * 4),
        mock.patch.object(tempfile, "tempdir", str(directory)),
    ):
        yield
