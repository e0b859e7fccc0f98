"""Training from Python."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from ..backends.registry import get_engine
from ..config import ExecutionConfig, ModelConfig, TrainingConfig
from ..data.examination import ExaminationConfig
from ..data.raw import RawData
from ..ptychodus_io.names import LIBRARY, MODEL_BASENAME
from ..remembered import new_directory
from ..settings_table import SETTINGS
from ..worker.job import DATA_DIRECTORY, VALIDATION_DIRECTORY, TrainJob
from ..worker.request import TrainingRequest
from ..worker.run_files import RunFiles, require_writable
from ..worker.running import Observer, running
from .defaults import default_execution_config, default_training_config
from .results import Model, open_model
from .scans import Scan, read_scan, read_scans

logger = logging.getLogger(LIBRARY)

_VALIDATION_FRACTION = float(SETTINGS["Data.ValidationFraction"].default)


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
    scans, without = read_scans(scan, examination, skip_damaged=skip_damaged)
    raw = next(iter(scans.values()))
    held_out = None if isinstance(validation, (int, float)) else read_scan(validation, examination)
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


def _require_size(model: ModelConfig, raw: RawData, where: str) -> None:
    if model.N not in (raw.N, ModelConfig.N):
        raise ValueError(
            f"{where}.model.N = {model.N}, but the patterns have {raw.N} × {raw.N} pixels: set N = {raw.N}, "
            "or crop or bin the patterns."
        )
