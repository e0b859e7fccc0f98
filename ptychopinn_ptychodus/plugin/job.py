"""What the parent asks of a worker, and the wire between the two.

A job is a directory that holds ``job.json``; arrays lie beside it as ``.npy`` files. The worker answers with
one JSON object a line on its standard output (which it keeps for this: whatever libraries print goes to
standard error), each with a ``kind``:

``log``
    ``level``, ``name``, ``text``: a log record.
``learning``
    the first batch is done: from now on there is something to lose.
``batch``
    ``epoch``, ``batch``, ``batches``: a batch is done, for jobs that ask for these messages.
``epoch``
    the fields of an :class:`~ptychopinn_ptychodus.backends.base.EpochReport`.
``findings``
    ``findings``: what the examination of the scan has found, as :meth:`.Report.to_json` gives it.
``preview``
    ``epoch``: the object after it lies beside the model, see :mod:`.preview`.
``progress``
    ``fraction`` of the work done, 0 to 1; with ``making`` when that is making scans to learn from, which says
    nothing about the time left.
``network``
    the network's object is there, and is being refined.
``refinement``
    the fields of a :class:`~ptychopinn_ptychodus.refinement.RefinementReport`.
``result``
    the last line of a job that ended well; its fields depend on the job. A reconstruction's ``verdict`` holds
    the findings about its object.
``error``
    the last line of one that did not: ``classes`` (names, most derived first), ``text``, ``traceback``, and
    ``os`` (errno, text, file) for an ``OSError``.

A line ``stop`` on the worker's standard input asks it to keep its best state and end. The end of that input
means that the parent is gone, and has the same effect.
"""

from __future__ import annotations

import builtins
import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.base import EngineUnavailableError, ModelFileError
from ..config import ExecutionConfig, InferenceConfig, TrainingConfig, from_dict, to_dict
from ..data.examination import ExaminationConfig, ExaminationError
from ..files import telling_of_full_disk
from ..pretraining import PretrainingConfig
from ..refinement import RefinementConfig

JOB_FILE = "job.json"
DATA_DIRECTORY = "data"
VALIDATION_DIRECTORY = "validation"
START_DIRECTORY = "start"
NETWORK_DIRECTORY = "network"
REFINED_DIRECTORY = "refined"
PROBE_DIRECTORY = "probes"

_OWN_ERRORS: dict[str, type[Exception]] = {
    cls.__name__: cls for cls in (ModelFileError, EngineUnavailableError, ExaminationError)
}


class ChildDiedError(RuntimeError):
    """The worker ended without an answer; the message says how, and shows its last output."""


@dataclass(frozen=True)
class TrainJob:
    """Train on the files in ``config.train_data_file`` (a directory) and leave the model at ``model_path``.

    Where ``train_data_file`` is None, the scan is the one that :meth:`.RawData.to_directory` has left in
    ``data/`` of the job's directory, and ``validation/`` holds the scan to validate with, if there is one.

    Attributes
    ----------
    config
        ``model.N`` and ``nphotons`` are set by the worker, from the data.
    validation_fraction
        Part of the patterns that is held out where the directory has no test data.
    use_all_positions
        Take ``n_groups`` from the data: one per position.
    preview
        Leave the object beside the model while it is learnt.
    log_level
        Of the records to send.
    examination
        What is looked for in the data.
    tell_batches
        Send a ``batch`` message after every batch.
    """

    config: TrainingConfig
    execution: ExecutionConfig
    model_path: Path
    validation_fraction: float
    use_all_positions: bool
    preview: bool
    log_level: int
    examination: ExaminationConfig = field(default_factory=ExaminationConfig)
    tell_batches: bool = False


@dataclass(frozen=True)
class ReconstructJob:
    """Apply ``config.model_path`` to the scan in ``data/`` and stitch on a canvas of ``shape``.

    The object is left in ``network/`` and, if it is refined, what becomes of it in ``refined/``, see
    :class:`Estimate`.

    Attributes
    ----------
    refinement
        None: none.
    choose_neighbor_count
        Take ``neighbor_count`` from the model's gridsize, which the worker reads.
    probe_modes
        Of the refined probe, if the model is for any probe and brings no modes of its own; None: as the scan.
    examination
        What is looked for in the scan and in the result.
    """

    config: InferenceConfig
    execution: ExecutionConfig
    refinement: RefinementConfig | None
    model_type: str
    shape: tuple[int, int]
    choose_neighbor_count: bool
    log_level: int
    probe_modes: int | None = None
    examination: ExaminationConfig = field(default_factory=ExaminationConfig)

    @property
    def device(self) -> str:
        """Of refinement and verdict, as :func:`~ptychopinn_ptychodus.refinement.solver.refine` takes it."""
        return _device(self.execution)


@dataclass(frozen=True)
class RefineJob:
    """Refine the :class:`Estimate` in ``start/`` with the scan in ``data/``, and leave it in ``refined/``.

    Attributes
    ----------
    execution
        Only ``accelerator`` takes part.
    examination
        What is looked for in the scan and in the result.
    """

    refinement: RefinementConfig
    execution: ExecutionConfig
    log_level: int
    examination: ExaminationConfig = field(default_factory=ExaminationConfig)

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
    config
        ``n_groups`` is set by the worker.
    pretraining
        What the scans are like. The probes to make them with are in ``probes/``, see :func:`save_probes`;
        where there are none, they are made, too.
    log_level
        Of the records to send.
    """

    config: TrainingConfig
    execution: ExecutionConfig
    pretraining: PretrainingConfig
    model_path: Path
    log_level: int


Job = TrainJob | ReconstructJob | RefineJob | PretrainJob


@dataclass(frozen=True)
class Estimate:
    """Arrays that a reconstruction leaves in a directory, or that a refinement starts from.

    Attributes
    ----------
    object
        (H, W) complex64.
    probe
        (modes, N, N) complex64, in counts, see :class:`~ptychopinn_ptychodus.backends.base.Prediction`.
    positions
        (M, 2) float64 [x, y], pixels of the object; None where they are those of the scan.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64] | None = None

    def save(self, directory: Path) -> None:
        """Write what there is."""
        directory.mkdir()
        for name, array in vars(self).items():
            if array is not None:
                with telling_of_full_disk(directory):
                    np.save(directory / f"{name}.npy", array)

    @classmethod
    def load(cls, directory: Path) -> Estimate:
        """Inverse of :meth:`save`."""
        arrays = {path.stem: np.load(path, allow_pickle=False) for path in directory.glob("*.npy")}
        return cls(**arrays)


def save_probes(probes: Sequence[NDArray[np.complex64]], directory: Path) -> None:
    """Leave probes, (modes, N, N) each, for a :class:`PretrainJob` in the job's ``directory``."""
    (directory / PROBE_DIRECTORY).mkdir()
    for number, probe in enumerate(probes):
        np.save(directory / PROBE_DIRECTORY / f"{number:06d}.npy", probe)


def load_probes(directory: Path) -> list[NDArray[np.complex64]]:
    """Inverse of :func:`save_probes`."""
    paths = sorted((directory / PROBE_DIRECTORY).glob("*.npy"))
    return [np.load(path, allow_pickle=False) for path in paths]


def neighbor_count(setting: int | None, gridsize: int) -> int:
    """What the setting ``NeighborCount`` stands for; where it is not set, a little more than a group needs.

    Raises
    ------
    ValueError
        If it is too small for ``gridsize``.
    """
    if setting is None:
        return gridsize**2 + 2  # so that groups differ
    if setting < gridsize**2 - 1:
        raise ValueError(
            f"The setting PtychoPINNPluginData.NeighborCount = {setting} is not valid: groups of "
            f"GridSize² = {gridsize**2} patterns need at least {gridsize**2 - 1} neighbours to "
            "choose from; 0 leaves it to the plugin."
        )
    return setting


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
        fields["config"] = from_dict(TrainingConfig, fields["config"])
        fields["model_path"] = Path(fields["model_path"])
        if kind == TrainJob.__name__:
            return TrainJob(**fields)
        fields["pretraining"] = from_dict(PretrainingConfig, fields["pretraining"])
        return PretrainJob(**fields)
    if fields["refinement"] is not None:
        fields["refinement"] = from_dict(RefinementConfig, fields["refinement"])
    if kind == RefineJob.__name__:
        return RefineJob(**fields)
    fields["config"] = from_dict(InferenceConfig, fields["config"])
    return ReconstructJob(**{**fields, "shape": tuple(fields["shape"])})


def describe_error(exc: BaseException) -> dict[str, Any]:
    """An exception as the fields of an ``error`` message."""
    fields: dict[str, Any] = {
        "classes": [cls.__name__ for cls in type(exc).__mro__],
        "text": str(exc) or type(exc).__name__,
        "traceback": "".join(traceback.format_exception(exc)),
    }
    if isinstance(exc, OSError) and exc.errno is not None:
        fields["os"] = [exc.errno, exc.strerror, None if exc.filename is None else str(exc.filename)]
    return fields


def rebuild_error(fields: dict[str, Any]) -> Exception:
    """The exception that :func:`describe_error` saw, or the nearest that the parent knows.

    An exception of a framework becomes the built-in that it derives from: the parent must not import the
    framework to learn about it.
    """
    text = fields["text"]
    for position, name in enumerate(fields["classes"]):
        known = _OWN_ERRORS.get(name) or getattr(builtins, name, None)
        if not (isinstance(known, type) and issubclass(known, Exception)):
            continue
        if known is Exception:
            break
        if issubclass(known, OSError) and "os" in fields:
            errno, strerror, filename = fields["os"]
            return known(errno, strerror, filename) if filename is not None else known(errno, strerror)
        try:
            return known(text if position == 0 else f"{fields['classes'][0]}: {text}")
        except TypeError:  # needs more than a text, like UnicodeDecodeError
            continue
    return RuntimeError(f"{fields['classes'][0]}: {text}")
