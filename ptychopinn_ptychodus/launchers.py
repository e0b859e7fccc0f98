"""Several processes like this one, as ``torchrun`` and SLURM's ``srun`` start them: which of them this is.

Only environment variables are read: neither a framework nor the launcher is needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

TORCHRUN = "torchrun"
SLURM = "SLURM"


@dataclass(frozen=True)
class Launch:
    """What has started this process along with others.

    Attributes
    ----------
    launcher
        :data:`TORCHRUN` or :data:`SLURM`.
    rank, size
        Number of this process, from 0, and of all.
    """

    launcher: str
    rank: int
    size: int


def launched() -> Launch | None:
    """What has started this process along with others; None where it is alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        return Launch(TORCHRUN, rank, size) if size > 1 else None
    # a script that a batch job runs by itself is one process, however many tasks the job has room for
    size = _number("SLURM_STEP_NUM_TASKS", _number("SLURM_NTASKS", 1))
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if size > 1 and "SLURM_PROCID" in os.environ and not interactive:
        return Launch(SLURM, _number("SLURM_PROCID", 0), size)
    return None


def follows(processes: int) -> bool:
    """Whether this process takes part in a job of so many ``processes`` of which another one is the first.

    The first one alone reports and writes. A job of one process is its own first one wherever it runs.
    """
    launch = launched()
    return processes > 1 and launch is not None and launch.rank > 0


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
