"""Jobs as files: what is read is what was written, and a job of a newer version says so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ptychopinn_ptychodus.config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptychopinn_ptychodus.pretraining import PretrainingConfig
from ptychopinn_ptychodus.refinement import RefinementConfig
from ptychopinn_ptychodus.worker.job import (
    JOB_FILE,
    Job,
    PretrainJob,
    ReconstructJob,
    RefineJob,
    TrainJob,
    read_job,
    write_job,
)
from ptychopinn_ptychodus.worker.request import ReconstructionRequest, TrainingRequest

ASKED, EXECUTION, REFINEMENT, MODEL = (
    TrainingRequest.of(TrainingConfig()),
    ExecutionConfig(accelerator="cpu"),
    RefinementConfig(epochs=3),
    Path("model.ckpt"),
)
TO_APPLY = ReconstructionRequest.of(InferenceConfig(n_groups=7, model=ModelConfig(gridsize=3)), MODEL)

JOBS: dict[str, Job] = {
    "train": TrainJob(ASKED, EXECUTION, MODEL, 0.1, True, 20),
    "reconstruct": ReconstructJob(TO_APPLY, EXECUTION, REFINEMENT, "pinn", (90, 100), 20),
    "refine": RefineJob(REFINEMENT, EXECUTION, 20),
    "pretrain": PretrainJob(ASKED, EXECUTION, PretrainingConfig(), MODEL, 20),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    write_job(JOBS[name], tmp_path)
    assert read_job(tmp_path) == JOBS[name]


@pytest.mark.parametrize(
    ("name", "section"),
    [
        (name, field.name)
        for name, job in JOBS.items()
        for field in dataclasses.fields(job)
        if dataclasses.is_dataclass(getattr(job, field.name))
    ],
)
def test_a_field_of_a_newer_version_is_named(name: str, section: str, tmp_path: Path) -> None:
    write_job(JOBS[name], tmp_path)
    content = json.loads((tmp_path / JOB_FILE).read_text(encoding="utf-8"))
    content[section]["horizon"] = 3
    (tmp_path / JOB_FILE).write_text(json.dumps(content), encoding="utf-8")
    kind = type(getattr(JOBS[name], section)).__name__
    with pytest.raises(ValueError, match=rf"{kind} has no field 'horizon'.*newer.*pip install --upgrade"):
        read_job(tmp_path)
