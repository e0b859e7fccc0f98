"""``pretrain``: a model for any scan, learnt from simulated ones; the worker does it, as it does training."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api import default_execution_config
from ..backends.base import Engine, EpochReport
from ..backends.registry import available_engine, get_engine, list_engines
from ..backends.training_state import state_path
from ..pattern_sizes import IN_WORDS, SIZES
from ..plugin.history import CSV_FILE, PNG_FILE, TrainingHistory
from ..pretraining import PretrainingConfig
from ..ptychodus_io.names import LIBRARY, MODEL_BASENAME, product_in
from ..refinement import RefinementReport
from ..worker.job import PretrainJob, save_probes
from ..worker.request import TrainingRequest
from ..worker.run_files import RunFiles
from ..worker.running import ChildRun, JobObserver
from .commands import require_writable_directory
from .errors import INTERRUPTED, SUCCESS, UsageError
from .progress import ProgressDisplay, TimeLeft

WEIGHTS = {True: {"amplitude": 0.0, "object": 1.0}, False: {"amplitude": 1.0, "object": 0.0}}
"""Default weights of the objective, for single frames and for groups, see docs/single_frames.md.

What a single frame leaves open only the object teaches; the large-scale phase of an object is no more known
from a group than from a frame, and would outweigh what a group does determine.
"""

BATCH_PATTERNS = 27
"""Patterns of a step, in groups of gridsize²."""


def pretrain(arguments: argparse.Namespace) -> int:
    """Make a model for any scan; see ``ptychopinn-ptychodus pretrain --help``."""
    probes = read_probes(arguments.probe)
    size = arguments.size or (probes[0].shape[-1] if probes else PretrainingConfig.size)
    if probes and size != probes[0].shape[-1]:
        raise UsageError(
            f"--size {size} is not that of the given probes, {probes[0].shape[-1]}: leave it out, or give "
            "other probes."
        )
    target: Path = arguments.output.absolute()
    engine = _engine(arguments.backend)
    try:
        pretraining = PretrainingConfig(
            scans=arguments.scans,
            validation_scans=max(1, arguments.scans // 16),
            size=size,
            gridsize=arguments.gridsize,
            most_modes=arguments.modes,
            probe_errors=arguments.probe_errors,
            # other groups of the same patterns are something new to learn from; the same frame is not
            visits=1 if arguments.gridsize == 1 else PretrainingConfig.visits,
            neighbor_count=max(8, arguments.gridsize**2 + 3),
            seed=arguments.seed,
        )
        job = _job(pretraining, engine, target, arguments)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    require_writable_directory(target)
    return _run(job, probes)


def _job(
    pretraining: PretrainingConfig, engine: Engine, target: Path, arguments: argparse.Namespace
) -> PretrainJob:
    weights = _weights(arguments)
    asked = TrainingRequest(
        model={
            "gridsize": pretraining.gridsize,
            "n_filters_scale": arguments.filters,
            "architecture": arguments.architecture,
            "reflections": arguments.reflections,
        },
        training={
            "batch_size": max(1, BATCH_PATTERNS // pretraining.gridsize**2),
            "nepochs": arguments.epochs,
            "neighbor_count": pretraining.neighbor_count,
            "subsample_seed": pretraining.seed,
            # the likelihood of the darkest scans would outweigh all others: there is most noise in it
            "mae_weight": weights["amplitude"],
            "nll_weight": 0.0,
            "realspace_aligned_weight": weights["object"],
            # there is not one probe, nor one scale, to learn
            "probe_trainable": False,
            "intensity_scale_trainable": False,
            "output_dir": target,
            "backend": engine.name,
        },
    )
    asked.check()
    verbose = arguments.verbose or arguments.debug
    return PretrainJob(
        asked=asked,
        execution=default_execution_config(accelerator=arguments.accelerator),
        pretraining=pretraining,
        model_path=target / f"{MODEL_BASENAME}{engine.model_suffix}",
        log_level=logging.DEBUG if arguments.debug else logging.INFO if verbose else logging.WARNING,
        resume=arguments.resume,
    )


def _weights(arguments: argparse.Namespace) -> dict[str, float]:
    """The weight of each term of the objective.

    Raises
    ------
    ValueError
        If a weight is below 0 or not finite, or all are 0.
    """
    asked = {"amplitude": arguments.amplitude_weight, "object": arguments.object_weight}
    weights = WEIGHTS[arguments.gridsize == 1] | {name: w for name, w in asked.items() if w is not None}
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"--{name}-weight {weight:g} is not a number of at least 0: give one, or leave it out."
            )
    if not any(weights.values()):
        raise ValueError(
            "--amplitude-weight and --object-weight are both 0, so that there is nothing to learn from: set "
            "one of them above 0, or leave them out."
        )
    return weights


def _engine(backend: str | None) -> Engine:
    """The engine that is named, else the first whose framework is installed."""
    if backend is not None:
        if backend not in list_engines():
            known = ", ".join(list_engines()) or "none"
            raise UsageError(f"--backend {backend}: there is no such engine. Installed engines: {known}.")
        engine = get_engine(backend)
        engine.require()
        return engine
    return available_engine()


# ---- probes -----------------------------------------------------------------------------------------------


def read_probes(paths: Sequence[Path]) -> list[NDArray[np.complex64]]:
    """The probe in each file, (modes, N, N) complex64.

    Raises
    ------
    UsageError
        If a file is missing, holds no usable probe, or one of another size than the others.
    """
    probes = [_read_probe(path) for path in paths]
    for path, probe in zip(paths, probes, strict=True):
        if probe.shape[-1] != probes[0].shape[-1]:
            raise UsageError(
                f'The probe in "{path}" has {probe.shape[-1]} pixels along an edge, that in "{paths[0]}" '
                f"{probes[0].shape[-1]}: pretrain with probes of one size."
            )
    return probes


def _read_probe(path: Path) -> NDArray[np.complex64]:
    path = product_in(path) if path.is_dir() else path
    if not path.is_file():
        raise UsageError(
            f'There is no probe file "{path}": name a product (product.h5), a directory that holds one, or '
            "training data (.npz)."
        )
    try:
        probe = _from_npz(path) if path.suffix == ".npz" else _from_product(path)
        probe = probe.astype(np.complex64).reshape(-1, *probe.shape[-2:])
    except Exception as exc:  # there is no end to what numpy and h5py raise for a file that is something else
        raise UsageError(
            f'"{path}" holds no probe that can be read ({str(exc).strip(chr(39))}). '
            "Save it again or name another."
        ) from exc
    size = probe.shape[-1]
    if probe.ndim != 3 or probe.shape[1] != size or size not in SIZES:
        raise UsageError(
            f'The probe in "{path}" has shape {probe.shape[1:]}: give one of N × N pixels, where N is one of '
            f"{IN_WORDS}."
        )
    if not (np.isfinite(probe).all() and probe.any()):
        raise UsageError(f'The probe in "{path}" is zero everywhere, or not finite: name another.')
    return probe


def _from_npz(path: Path) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as file:
        probe: NDArray[Any] = file["probeGuess"]
    # of Ptychodus' OPR modes the first, as everywhere
    return np.asarray(probe[0] if probe.ndim == 4 else probe)


def _from_product(path: Path) -> NDArray[Any]:
    from ptychodus.api.io import load_product

    probes: NDArray[Any] = np.asarray(load_product(path).probes.get_array())
    return np.asarray(probes[0])


# ---- the run ----------------------------------------------------------------------------------------------


def _run(job: PretrainJob, probes: Sequence[NDArray[np.complex64]]) -> int:
    files, history = RunFiles(job.model_path), TrainingHistory()
    log = logging.getLogger(LIBRARY)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    level, propagate = log.level, log.propagate
    log.setLevel(job.log_level)
    log.propagate = False
    try:
        with ProgressDisplay("pretraining") as display:
            run = ChildRun(job, _Watcher(job.asked.training["nepochs"], history, display), log)
            with run.started(lambda directory: save_probes(probes, directory)):
                _follow(run, display)
        finished = run.is_complete
        _keep(files, history, log, stopped=not finished)
    except Exception:
        _keep(files, history, log, stopped=False)
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
    if not finished and state_path(job.model_path).is_file():
        print("To go on with it: the same command with --resume.")
    if not files.has_model():
        print("Interrupted before there was a model to keep.")
        return INTERRUPTED
    print(f"{'Model' if finished else 'Interrupted. Best model so far'}: {job.model_path}")
    for name in (PNG_FILE, CSV_FILE):
        if history.training:
            print(f"Losses: {job.model_path.parent / name}")
    return SUCCESS if finished else INTERRUPTED


def _keep(files: RunFiles, history: TrainingHistory, log: logging.Logger, *, stopped: bool) -> None:
    """See to it that there is a model after a stop, and a history in any case."""
    checkpoint = None if files.has_model() else files.checkpoint()
    if checkpoint is not None and stopped:
        files.promote(checkpoint)
    elif checkpoint is not None:
        log.warning('Pretraining left its best state in "%s": it can be used as a model.', checkpoint)
    try:
        history.save(files.model_path.parent)
    except OSError as exc:  # the model is what counts
        log.warning("The training history was not written: %s", exc)


def _follow(run: ChildRun, display: ProgressDisplay) -> None:
    """Go through the run to its end. Ctrl-C keeps the best model, another does not."""
    try:
        for _ in run.steps():
            pass
    except KeyboardInterrupt:
        display.console.print("Stopping; Ctrl-C again to give up at once.")
        run.stop()
    if run.is_complete:
        display.update(1.0, None, "done")


class _Watcher(JobObserver):
    """Keeps the losses, and shows how far it is: first scans are made, then they are learnt from."""

    def __init__(self, nepochs: int, history: TrainingHistory, display: ProgressDisplay) -> None:
        self._nepochs = nepochs
        self._history = history
        self._display = display
        self._left: TimeLeft | None = None  # the making of scans says nothing about the time that is left
        self._fraction = 0.0
        self._note = "making scans"

    def on_learning(self) -> None:
        self._left = TimeLeft()
        self._note = f"epoch 1/{self._nepochs}"

    def on_resumed(self, history: dict[str, list[float]]) -> None:
        self._history.restore(history)

    def on_progress(self, fraction: float) -> None:
        self._fraction = fraction
        self._show()

    def on_epoch(self, report: EpochReport | RefinementReport) -> None:
        assert isinstance(report, EpochReport)
        self._history.append(report)
        losses = f"loss: training {report.train_loss:.4g}, validation {report.val_loss:.4g}"
        self._note = f"epoch {report.epoch}/{report.nepochs} done  {losses}"
        self._show()

    def _show(self) -> None:
        left = None if self._left is None else self._left.at(self._fraction)
        # the run is over when the model is written, not when its last epoch is
        self._display.update(min(self._fraction, 0.999), left, self._note)
