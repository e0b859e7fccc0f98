"""Several processes like this one, as launchers start them: which of them this is.

Launchers are ``torchrun``, SLURM's ``srun``, and whatever sets ``TF_CONFIG`` for TensorFlow. Only environment
variables are read: neither a framework nor the launcher is needed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

TORCHRUN = "torchrun"
SLURM = "SLURM"
TF_CONFIG = "TF_CONFIG"


@dataclass(frozen=True)
class Launch:
    """What has started this process along with others.

    Attributes
    ----------
    launcher
        :data:`TORCHRUN`, :data:`SLURM` or :data:`TF_CONFIG`.
    rank, size
        Number of this process, from 0, and of all.
    """

    launcher: str
    rank: int
    size: int


def launched() -> Launch | None:
    """What has started this process along with others; None where it is alone.

    Raises
    ------
    ValueError
        If ``TF_CONFIG`` is not what TensorFlow has there.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        return Launch(TORCHRUN, rank, size) if size > 1 else None
    of_tensorflow = _of_tensorflow()
    if of_tensorflow is not None:
        return of_tensorflow
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
    if processes == 1:
        return False
    launch = launched()
    return launch is not None and launch.rank > 0


def _of_tensorflow() -> Launch | None:
    text = os.environ.get(TF_CONFIG, "")
    if not text:
        return None
    try:
        found = json.loads(text)
        cluster = found.get("cluster", {})
        chiefs, workers = len(cluster.get("chief", [])), len(cluster.get("worker", []))
        if chiefs + workers < 2:
            return None
        task, index = found["task"]["type"], int(found["task"]["index"])
        rank = {"chief": index, "worker": chiefs + index}[task]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(
            f"The environment variable {TF_CONFIG} has to be JSON with 'cluster', lists of addresses of "
            "'worker' and possibly 'chief', and 'task', with 'type' one of these and 'index'; it is "
            f"{text[:200]!r}."
        ) from exc
    return Launch(TF_CONFIG, rank, chiefs + workers)


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
