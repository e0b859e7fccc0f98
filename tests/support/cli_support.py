"""What running the command in a process of its own returns."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
