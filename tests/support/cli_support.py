"""What running the command in a process of its own returns; the engine whose processes are over soonest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.util import find_spec

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]

SOONEST, SOONEST_MODEL = (
    ("pytorch", "model.ckpt") if find_spec("torch") else ("tensorflow", "model.wts.h5.zip")
)
"""For trainings of which any engine's will do: TensorFlow traces its graphs for longer than these last."""
