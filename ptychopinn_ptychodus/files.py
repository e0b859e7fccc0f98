"""Files that are replaced whole or not at all, and errors of full disks that say so."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

_OLD_S = 3600.0
_BLOCK = 8 << 20  # bytes that are written at a time where room cannot be asked for


class NoRoomError(OSError):
    """A disk has no room for what is to be written; the message says where, how much, and what to do."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` once the block has ended well.

    Until then, and for good if the block raises or the process dies, what was at ``path`` stays. What
    processes that died in such a block more than an hour ago have left for the same ``path`` is removed, but
    not on Windows, where a process cannot be asked after without harm.

    Raises
    ------
    OSError
        If the directory cannot be written to or the disk is full.
    """
    _remove_leftovers(path)
    # in the same directory, because a rename is atomic only within one file system
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            with telling_of_full_disk(path):
                yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, ...]:
    """Changes whenever the file is written or replaced; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)


@contextmanager
def telling_of_full_disk(path: Path) -> Iterator[None]:
    """Give an ``OSError`` without number one, and ``path``: numpy says no more of a write that was short."""
    try:
        yield
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from exc


def take_room(file: IO[Any], size: int) -> None:
    """Take ``size`` bytes of the disk for an open file, from its beginning; what it holds stays.

    Whatever is written there later finds its place, however full the disk is by then.

    Raises
    ------
    OSError
        If there is no room, which :func:`is_full_disk` tells.
    """
    file.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    block = bytes(_BLOCK)
    for start in range(file.seek(0, os.SEEK_END), size, _BLOCK):
        file.write(block[: size - start])
    file.flush()


def is_full_disk(exc: OSError) -> bool:
    """Whether an error says that there is no more room: on the disk, in a quota, or in a file."""
    return exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _remove_leftovers(path: Path) -> None:
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        name = re.fullmatch(r"\.(\d+)\.[0-9a-f]{32}\.tmp", old.name.removeprefix(f".{path.name}"))
        # the age, because the number of a process says nothing of other machines that share the directory
        with contextlib.suppress(OSError):  # another process removes it, too, or it is not ours to remove
            if name and time.time() - old.stat().st_mtime > _OLD_S and not process_runs(int(name[1])):
                old.unlink()


def process_runs(pid: int) -> bool:
    """Whether there is, or may be, a process of that number on this machine."""
    if os.name != "posix":
        return True  # there, signal 0 is one that ends it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's; no number of a process
        return True
    return True
