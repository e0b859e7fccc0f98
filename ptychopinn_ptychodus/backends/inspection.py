"""What engines say of themselves, and what they find on this machine.

``python -m ptychopinn_ptychodus.backends.inspection NAME`` prints the answer of :func:`inspect_engine` as one
JSON object in its last line: whoever must not import a framework asks in a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

MODULE = __name__ if __name__ != "__main__" else "ptychopinn_ptychodus.backends.inspection"


def inspect_engines() -> dict[str, dict[str, Any]]:
    """What each registered engine says of itself; no framework is imported."""
    from .registry import get_engine, list_engines

    found: dict[str, dict[str, Any]] = {}
    for name in list_engines():
        try:
            engine = get_engine(name)
            found[name] = {
                "title": engine.title,
                "missing": engine.problem(),
                "install": engine.install_hint,
                "broken": None,
            }
        except Exception as exc:  # somebody else's code
            broken = f"{type(exc).__name__}: {exc}"
            found[name] = {"title": name, "missing": None, "install": None, "broken": broken}
    return found


def inspect_engine(name: str) -> dict[str, Any]:
    """The accelerators of one engine, its framework imported, and how long that took."""
    from .registry import get_engine

    started = time.monotonic()
    devices = get_engine(name).accelerators()
    return {"devices": devices, "seconds": time.monotonic() - started}


def answer_in(output: str) -> dict[str, Any] | None:
    """The JSON object in the last line of what such a process has printed, None if there is none."""
    lines = output.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


if __name__ == "__main__":
    print(json.dumps(inspect_engine(sys.argv[1])))
