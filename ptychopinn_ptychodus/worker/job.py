"""What is asked of a worker: a directory that holds ``job.json``, and arrays beside it as ``.npy`` files.

What the worker answers is said in :mod:`.wire`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import ExecutionConfig, from_dict, to_dict
from ..data.examination import ExaminationConfig
from ..pretraining import PretrainingConfig
from ..refinement import RefinementConfig
from .request import ReconstructionRequest, TrainingRequest

JOB_FILE = "job.json"
DATA_DIRECTORY = "data"
VALIDATION_DIRECTORY = "validation"
START_DIRECTORY = "start"
NETWORK_DIRECTORY = "network"
REFINED_DIRECTORY = "refined"
PROBE_DIRECTORY = "probes"


@dataclass(frozen=True)
class TrainJob:
    """Train on the files in ``asked.train_data_file`` (a directory) and leave the model at ``model_path``.

    Where ``train_data_file`` is None, the scan is the one that :meth:`.RawData.to_directory` has left in
    ``data/`` of the job's directory, and ``validation/`` holds the scan to validate with, if there is one.

    Attributes
    ----------
    asked
        What was asked for. If it does not say ``n_groups``, there are as many as
        :func:`.automatic_groups` says for the patterns that are learnt from. ``probe_modes`` are at least as
        many as the probe has.
    validation_fraction
        Part of the patterns that is held out if the directory has no test data.
    preview
        Whether the object is written beside the model while it is learnt.
    log_level
        Least level of the log records that are sent.
    examination
        What is looked for in the data.
    tell_batches
        Whether a ``batch`` message is sent after every batch.
    start_model
        The model to begin with; None: a fresh network.
    resume
        Go on with the training that was interrupted before it left its model at ``model_path``, if there is
        one.
    scans
        Names of the scans, where the parent hands over several: they lie in ``data/0``, ``data/1`` and so on,
        but for those that it has left out.
    skip_damaged
        Whether a scan that is damaged is left out, where there are several.
    """

    asked: TrainingRequest
    execution: ExecutionConfig
    model_path: Path
    validation_fraction: float
    preview: bool
    log_level: int
    examination: ExaminationConfig = field(default_factory=ExaminationConfig)
    tell_batches: bool = False
    start_model: Path | None = None
    resume: bool = False
    scans: Sequence[str] = ()
    skip_damaged: bool = False

    @property
    def device(self) -> str:
        """Where the probe is found before the training, see :attr:`ReconstructJob.device`."""
        return _device(self.execution)


@dataclass(frozen=True)
class ReconstructJob:
    """Apply the model of ``asked`` to the scan in ``data/`` and stitch on a canvas of ``shape``.

    The object is left in ``network/`` and, if it is refined, what becomes of it in ``refined/``, see
    :class:`.Estimate`.

    Attributes
    ----------
    asked
        What was asked for: which model, and the groups that it is applied to.
    refinement
        How the network's object is refined; None if it is not.
    probe_modes
        Modes of the probe that is found, and of the refined one, if the model is for any probe and has none
        of its own; None stands for as many as the scan's probe has.
    examination
        What is looked for in the scan and in the result.
    pixel_m
        Edge of the object's pixels in metres, for what is said of lengths; None: it is not known.
    find_probe
        Whether a model for any probe is applied with a probe that is found from the patterns, where the
        scan's own does not explain them; see :func:`.better_probe`.
    """

    asked: ReconstructionRequest
    execution: ExecutionConfig
    refinement: RefinementConfig | None
    model_type: str
    shape: tuple[int, int]
    log_level: int
    probe_modes: int | None = None
    examination: ExaminationConfig = field(default_factory=ExaminationConfig)
    pixel_m: float | None = None
    find_probe: bool = True

    @property
    def device(self) -> str:
        """Device of refinement and verdict, for :func:`~ptychopinn_ptychodus.refinement.solver.refine`."""
        return _device(self.execution)


@dataclass(frozen=True)
class RefineJob:
    """Refine the :class:`.Estimate` in ``start/`` with the scan in ``data/``, and leave it in ``refined/``.

    Attributes
    ----------
    refinement
        What is refined, and for how long.
    execution
        Devices; only its ``accelerator`` is used.
    examination
        What is looked for in the scan and in the result.
    start
        Which object it starts from, see :func:`.chosen_start`: that in ``start/`` or a flat one.
    pixel_m
        See :class:`ReconstructJob`.
    """

    refinement: RefinementConfig
    execution: ExecutionConfig
    log_level: int
    examination: ExaminationConfig = field(default_factory=ExaminationConfig)
    start: str = "object"
    pixel_m: float | None = None

    @property
    def device(self) -> str:
        """See :attr:`ReconstructJob.device`."""
        return _device(self.execution)


def _device(execution: ExecutionConfig) -> str:
    return "cpu" if execution.accelerator == "cpu" else "auto"


@dataclass(frozen=True)
class PretrainJob:
    """Make scans, learn from them, and leave a model for any probe at ``model_path``.

    Attributes
    ----------
    asked
        What was asked for. N is that of ``pretraining``, and ``n_groups`` is what the made scans have.
    pretraining
        What the scans are like. The probes to simulate them with are in ``probes/``, see :func:`save_probes`;
        if there are none, probes are made as well.
    log_level
        Least level of the log records that are sent.
    resume
        See :attr:`TrainJob.resume`.
    """

    asked: TrainingRequest
    execution: ExecutionConfig
    pretraining: PretrainingConfig
    model_path: Path
    log_level: int
    resume: bool = False


Job = TrainJob | ReconstructJob | RefineJob | PretrainJob


def save_probes(probes: Sequence[NDArray[np.complex64]], directory: Path) -> None:
    """Leave probes, (modes, N, N) each, for a :class:`PretrainJob` in the job's ``directory``."""
    (directory / PROBE_DIRECTORY).mkdir()
    for number, probe in enumerate(probes):
        np.save(directory / PROBE_DIRECTORY / f"{number:06d}.npy", probe)


def load_probes(directory: Path) -> list[NDArray[np.complex64]]:
    """Inverse of :func:`save_probes`."""
    paths = sorted((directory / PROBE_DIRECTORY).glob("*.npy"))
    return [np.load(path, allow_pickle=False) for path in paths]


def write_job(job: Job, directory: Path) -> None:
    """Write ``job.json``."""
    fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
    plain = {
        name: to_dict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in fields.items()
    }
    text = json.dumps({"job": type(job).__name__, **plain}, default=str)
    (directory / JOB_FILE).write_text(text, encoding="utf-8")


def read_job(directory: Path) -> Job:
    """Inverse of :func:`write_job`."""
    fields = json.loads((directory / JOB_FILE).read_text(encoding="utf-8"))
    kind = fields.pop("job")
    fields["execution"] = from_dict(ExecutionConfig, fields["execution"])
    if "examination" in fields:
        fields["examination"] = from_dict(ExaminationConfig, fields["examination"])
    if kind in (TrainJob.__name__, PretrainJob.__name__):
        fields["asked"] = from_dict(TrainingRequest, fields["asked"])
        fields["model_path"] = Path(fields["model_path"])
        if kind == TrainJob.__name__:
            if fields["start_model"] is not None:
                fields["start_model"] = Path(fields["start_model"])
            fields["scans"] = tuple(fields["scans"])
            return TrainJob(**fields)
        fields["pretraining"] = from_dict(PretrainingConfig, fields["pretraining"])
        return PretrainJob(**fields)
    if fields["refinement"] is not None:
        fields["refinement"] = from_dict(RefinementConfig, fields["refinement"])
    if kind == RefineJob.__name__:
        return RefineJob(**fields)
    fields["asked"] = from_dict(ReconstructionRequest, fields["asked"])
    return ReconstructJob(**{**fields, "shape": tuple(fields["shape"])})
