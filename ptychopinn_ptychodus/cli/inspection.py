"""What ``doctor`` asks in processes of its own: a broken framework or application must not take it along.

``python -m ptychopinn_ptychodus.cli.inspection application|engines`` prints one JSON object as its last line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

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
        "frameworks": sorted({"torch", "tensorflow"} & set(sys.modules)),
    }


def inspect_engines() -> dict[str, Any]:
    """What each registered engine says of itself, its framework imported."""
    from ..backends.registry import get_engine, list_engines

    found: dict[str, Any] = {}
    for name in list_engines():
        started = time.monotonic()
        try:
            engine = get_engine(name)
            problem = engine.problem()
            devices = [] if problem else engine.accelerators()
            found[name] = {"title": engine.title, "problem": problem, "devices": devices}
        except Exception as exc:  # a framework may fail in any way while it is imported
            found[name] = {"title": name, "problem": f"{type(exc).__name__}: {exc}", "devices": []}
        found[name]["seconds"] = time.monotonic() - started
    return found


if __name__ == "__main__":
    answer = {"application": inspect_application, "engines": inspect_engines}[sys.argv[1]]()
    print(json.dumps(answer))
