"""Files that are replaced whole or not at all, and errors of full disks that say so."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` once the block has ended well.

    Until then, and for good if the block raises or the process dies, what was at ``path`` stays.

    Raises
    ------
    OSError
        If the directory cannot be written to or the disk is full.
    """
    # in the same directory, because a rename is atomic only within one file system
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            with telling_of_full_disk(path):
                yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def telling_of_full_disk(path: Path) -> Iterator[None]:
    """Give an ``OSError`` without number one, and ``path``: numpy says no more of a write that was short."""
    try:
        yield
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from exc
