"""Reconstruction and refinement from Python, of a whole scan and of one that is being recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backends.inference_checks import require_untouched
from ..config import ExecutionConfig, InferenceConfig, TrainingConfig
from ..data.confidence import Confidence
from ..data.estimate import Estimate
from ..data.examination import ExaminationConfig
from ..data.raw import RawData
from ..live.networks import NetworkProcess
from ..live.session import LiveReconstruction
from ..live.state import LiveState
from ..ptychodus_io.names import LIBRARY
from ..refinement import RefinementConfig
from ..settings_table import SETTINGS, fields_of
from ..worker.job import (
    DATA_DIRECTORY,
    NETWORK_DIRECTORY,
    REFINED_DIRECTORY,
    START_DIRECTORY,
    ReconstructJob,
    RefineJob,
)
from ..worker.request import ReconstructionRequest
from ..worker.run_files import CONFIDENCE_FILE
from ..worker.running import Observer, Run, running
from .defaults import default_execution_config
from .results import Model, Reconstruction, open_model
from .scans import Canvas, Scan, canvas_at, canvas_of, read_scan

logger = logging.getLogger(LIBRARY)


def reconstruct(
    scan: Scan,
    model: Model | str | Path,
    config: InferenceConfig | None = None,
    *,
    shape: tuple[int, int] | None = None,
    refinement: RefinementConfig | None = RefinementConfig(),  # noqa: B008 (frozen)
    execution: ExecutionConfig | None = None,
    examination: ExaminationConfig | None = None,
    find_probe: bool = True,
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
    find_probe
        Whether a model for any probe is applied with a probe that is found from the patterns, where the
        scan's own does not explain them. A model of one probe brings its own.
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
    raw = read_scan(scan, examination)
    opened = model if isinstance(model, Model) else open_model(model)
    asked = config or InferenceConfig()
    names = ("test_data_file", "n_subsample", "debug", "output_dir")
    require_untouched(asked, names, "by ptychopinn_ptychodus.reconstruct, which takes and returns arrays")
    if asked.model_path is not None and asked.model_path.absolute() != opened.path:
        raise ValueError(
            f'InferenceConfig.model_path = "{asked.model_path}" is not "{opened.path}", the model that was '
            "given: leave model_path at None."
        )
    canvas = canvas_of(raw, shape)
    job = ReconstructJob(
        asked=ReconstructionRequest.of(asked, opened.path),
        execution=execution or default_execution_config(),
        refinement=refinement if refinement is not None and refinement.epochs else None,
        model_type=opened.description.model.model_type,
        shape=canvas.shape,
        log_level=logger.getEffectiveLevel(),
        probe_modes=fields_of(TrainingConfig)["probe_modes"],
        examination=examination or ExaminationConfig(),
        find_probe=find_probe,
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
    raw = read_scan(scan, examination)
    light = raw.probeGuess if probe is None else np.asarray(probe)
    if isinstance(start, Reconstruction):
        light = start.probe if probe is None else light
        canvas = canvas_at(raw, start.positions, start.origin, start.object.shape)
        object_: NDArray[Any] = start.object
    elif start is None:
        canvas = canvas_of(raw, None)
        object_ = np.ones(canvas.shape)
    else:
        object_ = np.asarray(start)
        if object_.ndim != 2:
            raise ValueError(f"The start has the shape {object_.shape}: give an object of one layer, (H, W).")
        canvas = canvas_of(raw, (object_.shape[0], object_.shape[1]))
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


def _reconstruction(run: Run, canvas: Canvas) -> Reconstruction:
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
    confidence = run.directory / CONFIDENCE_FILE
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
        confidence=Confidence.load(confidence) if confidence.is_file() else None,
    )
