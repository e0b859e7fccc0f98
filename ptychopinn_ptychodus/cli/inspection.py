"""What ``doctor`` asks in processes of its own: a broken framework or application must not take it along.

``python -m ptychopinn_ptychodus.cli.inspection QUESTION`` prints one JSON object as its last line;
the question is ``application``, ``engines`` or ``engine NAME``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from ..backends.inspection import inspect_engine, inspect_engines

MODULE = __name__ if __name__ != "__main__" else "ptychopinn_ptychodus.cli.inspection"
SHIM = "ptychopinn_ptychodus_attach.py"


def inspect_application() -> dict[str, Any]:
    """What a stock ``ModelCore()`` lists, and whether the shim lies where it looks."""
    from pathlib import Path

    import ptychodus
    import ptychodus.plugins
    from ptychodus.model import ModelCore

    folders = [str(path) for path in ptychodus.plugins.__path__]
    core = ModelCore()
    return {
        "folders": folders,
        "shim": [folder for folder in folders if (Path(folder) / SHIM).is_file()],
        "reconstructors": sorted(core.workflow_api.available_reconstructors()),
        "frameworks": sorted({"torch", "tensorflow", "keras"} & set(sys.modules)),
    }


QUESTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "application": inspect_application,
    "engines": inspect_engines,
    "engine": inspect_engine,
}

if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]](*sys.argv[2:])))
