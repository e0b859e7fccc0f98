"""Where models and results go that nobody has named a directory for: a place that the platform decides on.

Each training has a directory of its own there, ``models/NAME/DATE TIME``, and none is ever replaced
by another; so has each live run that the window starts, ``live/NAME/DATE TIME``. On Linux that is below
``~/.local/share/ptychopinn-ptychodus``, or ``$XDG_DATA_HOME``.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

_LONGEST = 80


MODELS = "models"


def remembered_directory(kind: str) -> Path:
    """The directory of all that is remembered of one kind, which need not exist."""
    from platformdirs import user_data_path  # imported here: the application does not wait for it

    return user_data_path("ptychopinn-ptychodus", appauthor=False) / kind


def models_directory() -> Path:
    """The directory of all remembered models, which need not exist."""
    return remembered_directory(MODELS)


def new_directory(name: str, kind: str = MODELS) -> Path:
    """Make an empty directory for a model, or whatever ``kind`` says, of what is called ``name``.

    There may be others of that name.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    parent = _directory_of(name, kind)
    parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%d %H.%M.%S")
    number = 1
    while True:
        path = parent / (stamp if number == 1 else f"{stamp} ({number})")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def directories(name: str) -> list[Path]:
    """Those that were made for ``name``, the newest first."""
    parent = _directory_of(name)
    return sorted((path for path in parent.glob("*") if path.is_dir()), reverse=True)


def _directory_of(name: str, kind: str = MODELS) -> Path:
    # a name may hold what no file system allows, or lead elsewhere
    safe = re.sub(r"[^\w .+-]", "_", name)[:_LONGEST].strip(" .")
    return remembered_directory(kind) / (safe or "scan")
