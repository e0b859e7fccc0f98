"""Which of several processes this one is, by the environment variables of what has started it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ptychopinn_ptychodus.launchers import SLURM, TF_CONFIG, TORCHRUN, Launch, follows, launched

TORCHRUN_1_OF_4 = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN_3_OF_4 = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "scan"}


def _of_tensorflow(workers: int, chiefs: int = 0, **task: Any) -> dict[str, str]:
    cluster = {"worker": [f"node{n}:1" for n in range(workers)], "chief": ["head:1"] * chiefs}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (TORCHRUN_1_OF_4, Launch(TORCHRUN, 1, 4)),
        ({**TORCHRUN_1_OF_4, "WORLD_SIZE": "1", "RANK": "0"}, None),
        (SRUN_3_OF_4, Launch(SLURM, 3, 4)),
        # a step of fewer tasks than the job has room for
        ({**SRUN_3_OF_4, "SLURM_STEP_NUM_TASKS": "1"}, None),
        # the batch script itself, and a shell within a job
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "scan"}, None),
        ({**SRUN_3_OF_4, "SLURM_JOB_NAME": "bash"}, None),
        (_of_tensorflow(3, type="worker", index=2), Launch(TF_CONFIG, 2, 3)),
        (_of_tensorflow(3, 1, type="worker", index=2), Launch(TF_CONFIG, 3, 4)),
        (_of_tensorflow(3, 1, type="chief", index=0), Launch(TF_CONFIG, 0, 4)),
        (_of_tensorflow(1, type="worker", index=0), None),
        ({"TF_CONFIG": ""}, None),
        # srun may have started what TensorFlow is told of
        ({**SRUN_3_OF_4, **_of_tensorflow(2, type="worker", index=1)}, Launch(TF_CONFIG, 1, 2)),
        # what torchrun has started within a batch job is torchrun's
        ({**SRUN_3_OF_4, **TORCHRUN_1_OF_4}, Launch(TORCHRUN, 1, 4)),
    ],
)
def test_launcher_is_known_by_its_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Launch | None
) -> None:
    _set(monkeypatch, variables)
    assert launched() == expected


@pytest.mark.parametrize(
    ("variables", "processes", "expected"),
    [
        ({}, 4, False),
        (SRUN_3_OF_4, 4, True),
        ({**SRUN_3_OF_4, "SLURM_PROCID": "0"}, 4, False),
        # each of several tasks may have a job of its own
        (SRUN_3_OF_4, 1, False),
    ],
)
def test_first_process_of_a_job_follows_nobody(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], processes: int, expected: bool
) -> None:
    _set(monkeypatch, variables)
    assert follows(processes) is expected


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}),
        _of_tensorflow(2, type="ps", index=0)["TF_CONFIG"],
    ],
)
def test_what_tensorflow_would_not_understand_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    _set(monkeypatch, {"TF_CONFIG": text})
    with pytest.raises(ValueError, match="environment variable TF_CONFIG has to be JSON"):
        launched()


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in (*TORCHRUN_1_OF_4, *SRUN_3_OF_4, "SLURM_STEP_NUM_TASKS", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
