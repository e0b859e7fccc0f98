"""Which of several processes this one is, by the environment variables of what has started it."""

from __future__ import annotations

import pytest

from ptychopinn_ptychodus.launchers import SLURM, TORCHRUN, Launch, follows, launched

TORCHRUN_1_OF_4 = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN_3_OF_4 = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "scan"}


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


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in (*TORCHRUN_1_OF_4, *SRUN_3_OF_4, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
