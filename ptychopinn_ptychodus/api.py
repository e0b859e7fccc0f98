"""The Python interface: arrays and dataclasses in, arrays and dataclasses out; nothing of Ptychodus.

Everything here is also at the top of the package: ``from ptychopinn_ptychodus import RawData, train``. Scans
are examined before anything is computed from them, and results are judged afterwards. What was found is
logged under the name ``PtychoPINN-Plugin``, warnings as such, and is in the ``findings`` of what is returned.

``train``, ``reconstruct`` and ``refine`` work in a child process, unless ``in_process`` is True: then the
framework that they import stays in this one.

The examples below share a scan of 36 patterns, made as a user would make one:

>>> import numpy as np
>>> from ptychopinn_ptychodus import *
>>> x, y = raster_positions(6, 6, step=7.0, origin=38.0)
>>> truth = make_object((112, 112), seed=0)
>>> scan = simulate_scan(truth, make_probe(64), x, y, photons=1e6, seed=0)
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .backends.base import EpochReport, ModelDescription, ModelFileError
from .backends.framework import EngineUnavailableError
from .backends.inference_checks import require_untouched
from .backends.registry import available_engine, find_model, get_engine, guess_engine
from .config import ExecutionConfig, InferenceConfig, ModelConfig, TrainingConfig
from .data.estimate import Estimate
from .data.examination import ExaminationConfig, ExaminationError, Finding, Report
from .data.metrics import Comparison, compare, illumination_mask
from .data.raw import RawData
from .data.simulation import make_object, make_probe, raster_positions, simulate_scan
from .files import replacing
from .live.networks import NetworkProcess
from .live.session import LiveReconstruction
from .live.state import LiveObject, LiveState
from .ptychodus_io.names import LIBRARY, MODEL_BASENAME
from .ptychodus_io.several import each_scan, left_out
from .refinement import RefinementConfig, RefinementReport
from .remembered import new_directory
from .settings_table import NORMAL, SETTINGS, fields_of, fields_with_effort, known_object_weight
from .worker.job import (
    DATA_DIRECTORY,
    NETWORK_DIRECTORY,
    REFINED_DIRECTORY,
    START_DIRECTORY,
    VALIDATION_DIRECTORY,
    ReconstructJob,
    RefineJob,
    TrainJob,
)
from .worker.request import ReconstructionRequest, TrainingRequest, automatic_groups, neighbor_count
from .worker.run_files import RunFiles, require_writable
from .worker.running import Observer, Run, running
from .worker.warm import warm_worker

__all__ = [
    "Comparison",
    "EngineUnavailableError",
    "EpochReport",
    "ExaminationConfig",
    "ExaminationError",
    "ExecutionConfig",
    "Finding",
    "InferenceConfig",
    "LiveObject",
    "LiveReconstruction",
    "LiveState",
    "Model",
    "ModelConfig",
    "ModelFileError",
    "Observer",
    "RawData",
    "Reconstruction",
    "RefinementConfig",
    "RefinementReport",
    "Report",
    "TrainingConfig",
    "compare",
    "default_execution_config",
    "default_refinement_config",
    "default_training_config",
    "illumination_mask",
    "make_object",
    "make_probe",
    "open_model",
    "raster_positions",
    "reconstruct",
    "reconstruct_live",
    "refine",
    "simulate_scan",
    "train",
    "warm_worker",
]

logger = logging.getLogger(LIBRARY)

Scan = RawData | str | Path
"""A scan, the NPZ or HDF5 file that :meth:`.RawData.from_file` reads it from, or a standard directory of
Ptychodus, with ``diffraction.h5`` and ``product.h5``."""

_VALIDATION_FRACTION = float(SETTINGS["Data.ValidationFraction"].default)


@dataclass(frozen=True)
class Model:
    """A trained model, as its file describes it.

    Attributes
    ----------
    path
        The model file.
    description
        What the file says about itself: engine, configuration, statistics of the training data, losses.
    findings
        What the examination of the training data has found; empty for a model that was opened.
    stopped
        Whether its training was asked to stop.
    """

    path: Path
    description: ModelDescription
    findings: Report = field(default_factory=Report)
    stopped: bool = False

    @property
    def history(self) -> dict[str, list[float]]:
        """The losses ``train_loss`` and ``val_loss``, one value an epoch."""
        return {name: list(values) for name, values in self.description.history.items()}


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An object, and what it was found with.

    Attributes
    ----------
    object
        (H, W) complex64 transmission function.
    probe
        (modes, N, N) complex64; ``Σ_m |FFT_ortho(probe_m · patch)|²`` is in counts.
    positions
        (M, 2) float64 ``[x, y]``, in the pixels of the scan's positions; refined, where they were.
    origin
        ``[x, y]`` of the object's first pixel, in the pixels of the scan's positions.
    findings
        What the examination of the scan has found, and the verdict on the object.
    network
        (H, W) complex64, the network's own object, where this one is refined from it; else None.
    errors
        Normalised error of each epoch of the refinement, see :class:`.RefinementReport`; empty without one.
    stopped
        Whether the run was asked to stop; the object is then the best so far.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    origin: tuple[float, float]
    findings: Report = field(default_factory=Report)
    network: NDArray[np.complex64] | None = None
    errors: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def amplitude(self) -> NDArray[np.float32]:
        """(H, W) amplitude of the object."""
        return np.abs(self.object)

    @property
    def phase(self) -> NDArray[np.float32]:
        """(H, W) phase of the object, radians from -π to π."""
        return np.angle(self.object)

    @property
    def verdict(self) -> Finding | None:
        """Whether the object explains the patterns (``is_warning`` is False if so); None if not judged.

        That it does so with the conjugate of the probe alone, or at positions that had to be searched for, is
        a warning that comes before it, judged or not, and is then what this is: the others are in
        ``findings``.
        """
        return next((finding for finding in self.findings.findings if finding.subject == "result"), None)

    def to_file(self, path: str | Path) -> None:
        """Write an NPZ file with ``object``, ``probe``, ``positions`` and ``origin``, replaced atomically."""
        with replacing(Path(path)) as file:
            np.savez(file, object=self.object, probe=self.probe, positions=self.positions, origin=self.origin)


def default_training_config(scan: Scan, *, effort: str = NORMAL, **changes: Any) -> TrainingConfig:
    """The training that :func:`train` runs by itself: the plugin's defaults, with the first engine installed.

    The defaults of :class:`.TrainingConfig` itself are those of the PtychoPINN community, and differ.

    Parameters
    ----------
    scan
        What is to be trained on; it decides on N and on the number of groups.
    effort
        How long to train: ``"quick"``, ``"normal"`` or ``"thorough"``. It sets ``nepochs``, unless
        ``changes`` do.
    changes
        Fields of :class:`.TrainingConfig` that are to be different.

    Raises
    ------
    EngineUnavailableError
        If no framework is installed, and ``changes`` name no backend.
    ValueError
        If there is no such effort.

    Examples
    --------
    >>> config = default_training_config(scan, nepochs=2)
    >>> config.nepochs, config.n_groups, config.model.architecture
    (2, 36, 'unrolled')
    """
    raw = _scan(scan, None)
    model = changes.pop("model", None) or ModelConfig(N=raw.N, **fields_of(ModelConfig))
    fields = fields_with_effort(TrainingConfig, effort)
    fields["neighbor_count"] = neighbor_count(fields["neighbor_count"], model.gridsize)
    fields["probe_modes"] = max(fields["probe_modes"] or 0, len(raw.probeGuess))
    fields["realspace_mae_weight"] = known_object_weight(fields["realspace_mae_weight"], model.model_type)
    if "backend" not in changes:
        fields["backend"] = available_engine().name
    sequential = changes.get("sequential_sampling", fields["sequential_sampling"])
    fields["n_groups"] = fields["n_groups"] or automatic_groups(len(raw), model, sequential=sequential)
    return TrainingConfig(model=model, **{**fields, **changes})


def default_execution_config(**changes: Any) -> ExecutionConfig:
    """Devices and optimiser of :func:`train` where it is given none: the plugin's defaults.

    Parameters
    ----------
    changes
        Fields of :class:`.ExecutionConfig` that are to be different.

    Examples
    --------
    >>> default_execution_config(accelerator="cpu").scheduler
    'one_cycle'
    """
    return ExecutionConfig(**{**fields_of(ExecutionConfig), **changes})


def default_refinement_config(*, effort: str = NORMAL, **changes: Any) -> RefinementConfig:
    """The refinement of :func:`reconstruct` and :func:`refine`, as long as an effort has it.

    Parameters
    ----------
    effort
        ``"quick"``, ``"normal"``, which is :class:`.RefinementConfig` itself, or ``"thorough"``. It sets
        ``epochs``, unless ``changes`` do.
    changes
        Fields of :class:`.RefinementConfig` that are to be different.

    Raises
    ------
    ValueError
        If there is no such effort.

    Examples
    --------
    >>> default_refinement_config(effort="thorough").epochs
    30
    """
    return RefinementConfig(**{**fields_with_effort(RefinementConfig, effort), **changes})


def open_model(path: str | Path) -> Model:
    """Open a model that was trained before, by whichever engine; imports no framework.

    Parameters
    ----------
    path
        A model file, or a directory with one, as :func:`train` leaves it. If none is under the name that
        trainings give it (``model`` and its engine's suffix), there may be one under another.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or none in the directory.
    ValueError
        If there are several in the directory; the message lists them.
    ModelFileError
        If it is not a model, or damaged.

    Examples
    --------
    >>> open_model(model.path).description.model.gridsize
    2
    """
    file = find_model(Path(path)).absolute()
    return Model(file, guess_engine(file).describe(file))


def train(
    scan: Scan | Sequence[Scan],
    config: TrainingConfig | None = None,
    *,
    validation: Scan | float = _VALIDATION_FRACTION,
    output_dir: str | Path | None = None,
    execution: ExecutionConfig | None = None,
    examination: ExaminationConfig | None = None,
    observer: Observer | None = None,
    in_process: bool = False,
    start: Model | str | Path | None = None,
    resume: bool = False,
    skip_damaged: bool = False,
) -> Model:
    """Train a network on a scan, and leave the model in a directory.

    Parameters
    ----------
    scan
        What to learn from: a scan, or its file; or several of them. If several have different probes, the
        model is one for any probe; each scan is learnt from with its own probe, exposure and bad pixels.
    config
        By default :func:`default_training_config`. N, the photons of a pattern and, at least, the probe's
        modes are those of the scan.
    validation
        The part of the scan that is held out for validation, from 0 to 1, or another scan.
    output_dir
        Where the model file is left; an earlier one is replaced. By default ``config.output_dir``, and
        without ``config`` a new directory in the user's data directory, which :attr:`Model.path` is in.
    execution
        Devices and optimiser, :func:`default_execution_config` by default.
    examination
        What is looked for in the scan, and what is done about it; by default everything that can be.
    observer
        Is told how far the training is, and may stop it; the best model so far is then kept.
    in_process
        Train in this process instead of in a child.
    start
        A model to begin with, of any engine, instead of with a fresh network: its network and the probe that
        it has learnt, and the statistics of the scan. Without ``config``, the network is configured as the
        model's.
    resume
        Go on with the training that was interrupted in ``output_dir``, from its last epoch; everything else
        has to be as it was then. Where there is neither one nor a model, the training begins.
    skip_damaged
        Of several scans, leave out those that are damaged, each with a warning and a finding.

    Raises
    ------
    EngineUnavailableError
        If the framework is not installed; the message says how to install it.
    ExaminationError
        If the scan would give a wrong result; ``report`` has all findings.
    FileNotFoundError
        If there is nothing to resume, but a model that is complete.
    InterruptedError
        If the training was stopped before there was a model.
    ModelFileError
        If ``start`` is another network than that of ``config``; the message says in what.
    ValueError
        If scan and configuration do not fit each other, or the training to resume was begun otherwise.

    Examples
    --------
    >>> model = train(scan, default_training_config(scan, nepochs=1, output_dir=directory))
    >>> len(model.history["train_loss"])
    1
    """
    scans, without = _scans(scan, examination, skip_damaged=skip_damaged)
    raw = next(iter(scans.values()))
    held_out = None if isinstance(validation, (int, float)) else _scan(validation, examination)
    if start is not None and resume:
        raise ValueError("A training that is resumed has begun already: give either start or resume.")
    begin_with = start if start is None or isinstance(start, Model) else open_model(start)
    if config is not None:
        chosen = config
    elif begin_with is None:
        chosen = default_training_config(raw)
    else:
        own = dataclasses.replace(begin_with.description.model, N=raw.N)
        chosen = default_training_config(raw, model=own)
    for name in ("train_data_file", "test_data_file"):
        if getattr(chosen, name) is not None:
            raise ValueError(
                f"TrainingConfig.{name} is set, but train() is given the data themselves: give the file as "
                f"{'scan' if name == 'train_data_file' else 'validation'}, and leave {name} at None."
            )
    _require_size(chosen.model, raw, "TrainingConfig")
    engine = get_engine(chosen.backend)
    engine.require()
    if output_dir is not None:
        target = Path(output_dir).absolute()
    elif config is not None or resume:
        target = Path(chosen.output_dir).absolute()
    else:
        target = new_directory(next(iter(scans)))
    require_writable(target)
    # of the defaults, the number of groups is left to the patterns that are not held out
    left = {"n_groups": None} if config is None else {}
    job = TrainJob(
        asked=TrainingRequest.of(chosen, output_dir=target, **left),
        execution=execution or default_execution_config(),
        model_path=target / f"{MODEL_BASENAME}{engine.model_suffix}",
        validation_fraction=float(validation) if isinstance(validation, (int, float)) else 0.0,
        preview=False,
        log_level=logger.getEffectiveLevel(),
        examination=examination or ExaminationConfig(),
        tell_batches=True,
        start_model=None if begin_with is None else begin_with.path,
        resume=resume,
        scans=tuple(scans) if len(scans) > 1 else (),
        skip_damaged=skip_damaged,
    )

    def hand_over(directory: Path) -> None:
        if len(scans) == 1:
            raw.to_directory(directory / DATA_DIRECTORY)
        else:
            for number, each in enumerate(scans.values()):
                each.to_directory(directory / DATA_DIRECTORY / str(number))
        if held_out is not None:
            held_out.to_directory(directory / VALIDATION_DIRECTORY)

    files = RunFiles(job.model_path)
    try:
        with running(job, hand_over, observer, in_process=in_process) as run:
            pass
    except KeyboardInterrupt:
        files.keep_checkpoint()
        raise
    if run.stopped and not files.has_model() and not files.keep_checkpoint():
        raise InterruptedError("The training was stopped before there was a model to keep.")
    return dataclasses.replace(
        open_model(job.model_path), findings=without + run.findings, stopped=run.stopped
    )


def reconstruct(
    scan: Scan,
    model: Model | str | Path,
    config: InferenceConfig | None = None,
    *,
    shape: tuple[int, int] | None = None,
    refinement: RefinementConfig | None = RefinementConfig(),  # noqa: B008 (frozen)
    execution: ExecutionConfig | None = None,
    examination: ExaminationConfig | None = None,
    observer: Observer | None = None,
    in_process: bool = False,
) -> Reconstruction:
    """Apply a model to a scan, stitch its patches to one object, refine that with the whole scan, and judge.

    Parameters
    ----------
    scan
        The scan, or its file.
    model
        What :func:`train` or :func:`open_model` has returned, or the path of a model.
    config
        Groups and seed; by default every pattern takes part.
    shape
        (H, W) of the object whose pixels the scan's positions count. By default the shape of
        ``scan.objectGuess``, or, if there is none, whatever just holds the scan; see
        :attr:`Reconstruction.origin`.
    refinement
        How the network's object is refined; None leaves it as it is.
    execution
        Devices; :func:`default_execution_config` by default.
    examination
        What is looked for in the scan; with ``judge=False`` there is no verdict on the error.
    observer, in_process
        As for :func:`train`.

    Raises
    ------
    ModelFileError
        If it is not a model, or one for patterns of another size.
    ExaminationError
        If the scan would give a wrong result.
    InterruptedError
        If the run was stopped before there was an object.

    Examples
    --------
    >>> result = reconstruct(scan, model)
    >>> result.object.shape, result.verdict is None
    ((112, 112), False)
    """
    raw = _scan(scan, examination)
    opened = model if isinstance(model, Model) else open_model(model)
    asked = config or InferenceConfig()
    names = ("test_data_file", "n_subsample", "debug", "output_dir")
    require_untouched(asked, names, "by ptychopinn_ptychodus.reconstruct, which takes and returns arrays")
    if asked.model_path is not None and asked.model_path.absolute() != opened.path:
        raise ValueError(
            f'InferenceConfig.model_path = "{asked.model_path}" is not "{opened.path}", the model that was '
            "given: leave model_path at None."
        )
    canvas = _canvas(raw, shape)
    job = ReconstructJob(
        asked=ReconstructionRequest.of(asked, opened.path),
        execution=execution or default_execution_config(),
        refinement=refinement if refinement is not None and refinement.epochs else None,
        model_type=opened.description.model.model_type,
        shape=canvas.shape,
        log_level=logger.getEffectiveLevel(),
        probe_modes=fields_of(TrainingConfig)["probe_modes"],
        examination=examination or ExaminationConfig(),
    )
    with running(
        job,
        lambda directory: canvas.scan.to_directory(directory / DATA_DIRECTORY),
        observer,
        in_process=in_process,
    ) as run:
        return _reconstruction(run, canvas)


def refine(
    scan: Scan,
    start: Reconstruction | ArrayLike | None = None,
    config: RefinementConfig | None = None,
    *,
    probe: ArrayLike | None = None,
    execution: ExecutionConfig | None = None,
    examination: ExaminationConfig | None = None,
    observer: Observer | None = None,
    in_process: bool = False,
) -> Reconstruction:
    """Fit object, probe and positions to a scan by gradients, from any start, and judge; without a network.

    Parameters
    ----------
    scan
        The scan, or its file.
    start
        A reconstruction to go on with, an (H, W) complex object whose pixels the scan's positions count, or
        None for an empty object.
    config
        What is refined, and for how long.
    probe
        (N, N) or (modes, N, N) complex start; by default that of ``start``, or of the scan.
    execution
        Its ``accelerator`` is what takes part.
    examination, observer, in_process
        As for :func:`reconstruct`.

    Raises
    ------
    ValueError
        If the start does not fit the scan, or puts no light on the detector.
    ExaminationError
        If the scan would give a wrong result.
    InterruptedError
        If the run was stopped before an epoch was over.

    Examples
    --------
    >>> refined = refine(scan, config=RefinementConfig(epochs=3))
    >>> len(refined.errors), refined.errors[-1] < refined.errors[0]
    (3, True)
    """
    raw = _scan(scan, examination)
    light = raw.probeGuess if probe is None else np.asarray(probe)
    if isinstance(start, Reconstruction):
        light = start.probe if probe is None else light
        canvas = _moved(raw, start.positions, start.origin, start.object.shape)
        object_: NDArray[Any] = start.object
    elif start is None:
        canvas = _canvas(raw, None)
        object_ = np.ones(canvas.shape)
    else:
        object_ = np.asarray(start)
        if object_.ndim != 2:
            raise ValueError(f"The start has the shape {object_.shape}: give an object of one layer, (H, W).")
        canvas = _canvas(raw, (object_.shape[0], object_.shape[1]))
    job = RefineJob(
        refinement=config or RefinementConfig(),
        execution=execution or default_execution_config(),
        log_level=logger.getEffectiveLevel(),
        examination=examination or ExaminationConfig(),
    )

    def hand_over(directory: Path) -> None:
        canvas.scan.to_directory(directory / DATA_DIRECTORY)
        begin = Estimate(object_.astype(np.complex64), light.astype(np.complex64))
        begin.save(directory / START_DIRECTORY)

    with running(job, hand_over, observer, in_process=in_process) as run:
        return _reconstruction(run, canvas)


def reconstruct_live(
    probe: ArrayLike,
    model: Model | str | Path | None = None,
    *,
    bad_pixels: ArrayLike | None = None,
    domain: str = "counts",
    refinement: RefinementConfig | None = None,
    execution: ExecutionConfig | None = None,
    examination: ExaminationConfig | None = None,
    on_update: Callable[[LiveState], object] | None = None,
    observer: Observer | None = None,
    in_process: bool = False,
) -> LiveReconstruction[Reconstruction]:
    """Reconstruct a scan while it is recorded: frames in, an object at any time, the full one at the end.

    To be used as a context manager. The object is fitted to frames as they come, in a thread of this process,
    at the same cost for each. What :meth:`.LiveReconstruction.finish` returns is what :func:`refine` or
    :func:`reconstruct` makes of all of them.

    Parameters
    ----------
    probe
        (N, N) or (modes, N, N) complex, of any scale. Where the first frames contradict it, it is refined.
    model
        Makes a first object of new frames, in a child process, and takes part in the end.
    bad_pixels
        (N, N) bool.
    domain
        What patterns hold: ``"counts"`` or ``"amplitude"``.
    refinement
        Of the whole scan, in the end; by default that of :func:`reconstruct`, or, without a model, as many
        epochs as the reconstructor ``Refinement`` has.
    execution
        Its ``accelerator`` is what takes part; with ``"auto"``, a GPU does where PyTorch is imported.
    examination, observer, in_process
        As for :func:`reconstruct`, in the end.
    on_update
        Called with a :class:`.LiveState` about twice a second, in the thread that computes.

    Raises
    ------
    FileNotFoundError, ModelFileError, EngineUnavailableError
        If the model cannot be used.

    Examples
    --------
    >>> with reconstruct_live(scan.probeGuess, domain="amplitude") as running:
    ...     for pattern, xy in zip(scan.diff3d, zip(scan.xcoords, scan.ycoords)):
    ...         running.add(pattern, xy)
    ...     early = running.snapshot().object
    ...     whole = running.finish()
    >>> whole.object.shape
    (103, 103)
    """
    opened = None if model is None else model if isinstance(model, Model) else open_model(model)
    devices = execution or default_execution_config()
    epochs = RefinementConfig.epochs if opened is not None else int(SETTINGS["WithoutModel.Epochs"].default)
    config = refinement or RefinementConfig(epochs=epochs)
    options: dict[str, Any] = {"examination": examination, "observer": observer, "in_process": in_process}

    def complete(raw: RawData) -> Reconstruction:
        if opened is None:
            return refine(raw, config=config, execution=devices, **options)
        return reconstruct(raw, opened, refinement=config, execution=devices, **options)

    return LiveReconstruction(
        probe,
        complete,
        bad_pixels=bad_pixels,
        domain=domain,
        device="cpu" if devices.accelerator == "cpu" else "auto",
        network=None if opened is None else NetworkProcess(opened.path, devices.accelerator),
        on_update=on_update,
    )


# ---------------------------------------------------------------------- what the functions share


def _scan(scan: Scan, examination: ExaminationConfig | None) -> RawData:
    if isinstance(scan, RawData):
        return scan
    if Path(scan).is_dir():
        # imported here: whoever has arrays needs nothing of Ptychodus
        from .ptychodus_io.ingest import read_standard_directory

        return read_standard_directory(Path(scan), examination)
    return RawData.from_file(scan, examination)


def _scans(
    given: Scan | Sequence[Scan], examination: ExaminationConfig | None, *, skip_damaged: bool
) -> tuple[dict[str, RawData], Report]:
    """Scans by name, and findings on those that are left out; errors are those of :func:`.each_scan`."""
    several = [given] if isinstance(given, (RawData, str, Path)) else list(given)
    if not several:
        raise ValueError("There is no scan to learn from: give at least one.")
    paths = [str(each) for each in several if not isinstance(each, RawData)]
    short = len({Path(path).name for path in paths}) == len(paths)
    make = {}
    for number, each in enumerate(several, start=1):
        path = "" if isinstance(each, RawData) else str(each)
        name = (Path(path).name if short else path) if path else f"scan {number}"
        make[name] = partial(_scan, each, examination)
    findings: list[Finding] = []

    def note(name: str, exc: Exception) -> None:
        findings.append(left_out(name, exc))

    scans = each_scan(make, on_damaged=note if skip_damaged else None)
    report = Report(tuple(findings))
    report.log(logger)
    return scans, report


def _require_size(model: ModelConfig, raw: RawData, where: str) -> None:
    if model.N not in (raw.N, ModelConfig.N):
        raise ValueError(
            f"{where}.model.N = {model.N}, but the patterns have {raw.N} × {raw.N} pixels: set N = {raw.N}, "
            "or crop or bin the patterns."
        )


@dataclass(frozen=True)
class _Canvas:
    """A scan whose positions are pixels of an object of ``shape``, and where that object lies."""

    scan: RawData
    shape: tuple[int, int]
    origin: tuple[float, float]


def _canvas(raw: RawData, shape: tuple[int, int] | None) -> _Canvas:
    if shape is None and raw.objectGuess is not None:
        shape = (raw.objectGuess.shape[0], raw.objectGuess.shape[1])
    positions = np.stack((raw.xcoords, raw.ycoords), -1)
    if shape is not None:
        raw.require_inside(shape)
        return _moved(raw, positions, (0.0, 0.0), shape)
    origin = np.floor(positions.min(0)) - raw.N // 2
    width, height = np.ceil(positions.max(0) - origin).astype(int) + raw.N // 2 + 1
    return _moved(raw, positions, (float(origin[0]), float(origin[1])), (int(height), int(width)))


def _moved(
    raw: RawData, positions: NDArray[np.float64], origin: tuple[float, float], shape: tuple[int, ...]
) -> _Canvas:
    scan = raw.select(slice(None))
    scan.objectGuess = None
    scan.xcoords, scan.ycoords = (positions - np.asarray(origin)).T.copy()
    return _Canvas(scan, (shape[0], shape[1]), origin)


def _reconstruction(run: Run, canvas: _Canvas) -> Reconstruction:
    """What a reconstruction or a refinement has left in its directory."""
    network, refined = (
        Estimate.load(run.directory / name) if (run.directory / name).is_dir() else None
        for name in (NETWORK_DIRECTORY, REFINED_DIRECTORY)
    )
    errors = list((run.result or {}).get("errors", ()))
    if not run.is_complete or not errors:
        refined = None
    found = refined or network
    if found is None:
        raise InterruptedError("The run was stopped before there was an object.")
    positions = found.positions
    if positions is None:
        positions = np.stack((canvas.scan.xcoords, canvas.scan.ycoords), -1)
    return Reconstruction(
        object=found.object,
        probe=found.probe,
        positions=positions + np.asarray(canvas.origin),
        origin=canvas.origin,
        findings=run.findings,
        network=None if refined is None or network is None else network.object,
        errors=errors,
        stopped=run.stopped,
    )
