"""What runs in the child process: one job, from ``job.json`` to the result; see :mod:`.job` for the wire.

``python -m ptychopinn_ptychodus.plugin.worker DIRECTORY``
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.adaptation import fits_size
from ..backends.base import ModelDescription, ModelFileError
from ..backends.physics import other_exposure
from ..backends.registry import engine_for, get_engine, guess_engine
from ..backends.workflow import grouped, require_as_asked, require_untouched
from ..config import TrainingConfig
from ..data.assembly import assemble
from ..data.examination import Report
from ..data.grouping import PtychoDataContainer, neighbourhood_order
from ..data.raw import RawData
from ..refinement import RefinementConfig
from ..refinement.ends import StartError
from ..refinement.solver import refine
from .ingest import TrainingData, read_training_directory, require_object, require_same
from .job import (
    DATA_DIRECTORY,
    NETWORK_DIRECTORY,
    REFINED_DIRECTORY,
    START_DIRECTORY,
    VALIDATION_DIRECTORY,
    Estimate,
    Job,
    PretrainJob,
    ReconstructJob,
    RefineJob,
    TrainJob,
    describe_error,
    neighbor_count,
    read_job,
)
from .preview import Previews
from .worker_examination import examined, judged, tell
from .worker_learning import Learning, Send
from .worker_pretraining import pretrain

logger = logging.getLogger("PtychoPINN-Plugin")

ORPHAN_GRACE_S = 60.0


class Channel:
    """The worker's way to the parent: standard output, out of reach of whatever libraries print."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, kind: str, **fields: Any) -> None:
        """Write one message; a parent that is gone is no error here, since the job is told to stop."""
        line = json.dumps({"kind": kind, **fields})
        try:
            with self._lock:
                self._file.write(line + "\n")
                self._file.flush()
        except (OSError, ValueError):
            pass


class ChannelHandler(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._channel.send("log", level=record.levelno, name=record.name, text=self.format(record))
        except Exception:
            self.handleError(record)


def listen_for_stop(stop: threading.Event, orphaned: threading.Event, directory: Path) -> None:
    """Set ``stop`` on a line of standard input, at its end, and on Ctrl-C.

    At its end the parent is gone: a process that has not finished a while later has nobody left to end it, or
    to remove ``directory``.
    """

    def give_up() -> None:
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(1)

    def listen() -> None:
        # not sys.stdin: an interpreter that ends while a thread holds its buffer dies of it
        while os.read(0, 4096):
            stop.set()
        orphaned.set()
        stop.set()
        timer = threading.Timer(ORPHAN_GRACE_S, give_up)
        timer.daemon = True
        timer.start()

    threading.Thread(target=listen, daemon=True).start()
    # Ctrl-C at the terminal reaches parent and child alike: keep what has been learnt until then.
    signal.signal(signal.SIGINT, lambda *_: stop.set())


def train(
    job: TrainJob, send: Send, should_stop: Callable[[], bool], directory: Path | None = None
) -> dict[str, Any]:
    """Train and return the fields of the result message; ``directory`` is the job's."""
    config = job.config
    if config.train_data_file is not None:
        data = read_training_directory(
            config.train_data_file,
            job.examination,
            lambda raw, source: examined(raw, job.examination, send, source),
        )
    else:
        assert directory is not None
        data = _handed_over(directory, lambda raw: examined(raw, job.examination, send))
    supervised = config.model.model_type == "supervised"
    if supervised:
        require_object(data.train, data.source)
        if data.test is not None:
            require_object(data.test, data.source)
    raw = data.train
    if config.n_subsample is not None:
        raw = raw.subsample(config.n_subsample, config.seed)
    training, validation = raw, data.test
    if validation is None:
        training, validation = _hold_out(raw, job)

    model = dataclasses.replace(config.model, N=raw.N)
    config = dataclasses.replace(
        config,
        model=model,
        n_groups=training.n_patterns if job.use_all_positions else config.n_groups,
        probe_modes=_probe_modes(config.probe_modes, len(training.probeGuess)),
        nphotons=training.photons_per_pattern,
    )

    engine = get_engine(config.backend)
    engine.require()
    logger.info(
        "Training on %d patterns of %d × %d (%s), %d for validation, with %s.",
        training.n_patterns,
        raw.N,
        raw.N,
        data.source,
        0 if validation is None else validation.n_patterns,
        engine.title,
    )
    groups = grouped(training, config, config.n_groups)
    held_out = None if validation is None else grouped(validation, config, None)
    learning = Learning(
        should_stop,
        send,
        [groups, held_out],
        config.batch_size,
        config.nepochs,
        tell_batches=job.tell_batches,
    )
    result = engine.train(
        groups,
        held_out,
        config,
        job.execution,
        model_path=job.model_path,
        report=learning.report,
        should_stop=learning.should_stop,
        preview=learning.around(_previews(raw, config, job, send)),
    )
    return {"stopped": result.stopped}


def _handed_over(directory: Path, examine: Callable[[RawData], RawData]) -> TrainingData:
    """The scans that the parent has left in the job's directory."""
    training, validation = directory / DATA_DIRECTORY, directory / VALIDATION_DIRECTORY
    raw, source = examine(RawData.from_directory(training)), "the scan"
    if not validation.is_dir():
        return TrainingData(raw, None, source)
    test = examine(RawData.from_directory(validation))
    require_same(raw, source, test, "the validation scan")
    return TrainingData(raw, test, source)


def _previews(raw: RawData, config: TrainingConfig, job: TrainJob, send: Send) -> Previews | None:
    if not job.preview:
        return None
    try:
        # of the whole scan: what is held out would be a hole in the picture
        container = grouped(raw, config, None)
        return Previews(container, job.model_path.parent, lambda epoch: send("preview", epoch=epoch))
    except ValueError as exc:  # of patterns, it may be, that are not learnt from
        logger.warning("There will be no preview: %s", exc)
        return None


def _probe_modes(wanted: int | None, present: int) -> int:
    if wanted is not None and wanted < present:
        logger.warning(
            "The setting PtychoPINNPluginTraining.ProbeModes = %d is below the %d modes of the probe: all %d "
            "are kept. Set it to 0 to take as many as the probe has, or choose a probe with fewer modes.",
            wanted,
            present,
            present,
        )
    return max(wanted or 0, present)


def _hold_out(raw: RawData, job: TrainJob) -> tuple[RawData, RawData | None]:
    training, validation = raw.split(job.validation_fraction, job.config.seed)
    channels = job.config.model.channels
    if validation is not None and min(_smallest_scan(training), _smallest_scan(validation)) < channels:
        logger.warning(
            "%d patterns are too few to hold some out for validation in groups of %d: all are trained on.",
            raw.n_patterns,
            channels,
        )
        return raw, None
    return training, validation


def _smallest_scan(raw: RawData) -> int:
    return int(np.unique(raw.scan_index, return_counts=True)[1].min())  # groups stay within a scan


def reconstruct(
    job: ReconstructJob, directory: Path, send: Send, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Apply the model, stitch, refine; leave it in ``directory``, return the fields of the result."""
    config = job.config
    assert config.model_path is not None
    # by the rule of the parent, whose choice is in the configuration
    engine = engine_for(config.model_path, config.backend)
    writer = guess_engine(config.model_path)
    if writer is not engine:
        logger.info(
            'The model "%s" was written by %s, which is not installed: it is converted for %s.',
            config.model_path,
            writer.title,
            engine.title,
        )
    description = writer.describe(config.model_path)
    require_as_asked(config, description, config.model_path, engine.name, any_size=description.data.any_probe)
    require_untouched(config, ("test_data_file", "n_subsample", "debug", "output_dir"), "in Ptychodus")
    raw = examined(RawData.from_directory(directory / DATA_DIRECTORY), job.examination, send)
    _check_model(description, raw, job)
    model = description.model
    container = raw.generate_grouped_data(
        raw.N,
        neighbor_count(None if job.choose_neighbor_count else config.neighbor_count, model.gridsize),
        config.n_groups,  # None: every pattern is an anchor
        gridsize=model.gridsize,
        seed=config.subsample_seed,
    )
    finding = other_exposure(description.data, container)
    if finding is not None:
        tell(Report((finding,)), send)
    if config.n_groups is None and job.refinement is not None:
        container = container.subset(_spread_groups(container))
    logger.info("Reconstructing %d groups of %d patterns with %s.", *container.nn_indices.shape, engine.title)
    prediction = engine.predict(
        config.model_path,
        container,
        job.execution,
        report=lambda fraction: send("progress", fraction=0.9 * float(fraction)),
        should_stop=should_stop,
    )
    weight = np.sum(np.abs(prediction.probe) ** 2, axis=0)
    canvas = assemble(
        prediction.patches,
        container.nn_indices,
        container.coords,
        job.shape,
        weight,
        prediction.arithmetic,
    )
    found = Estimate(canvas.object, prediction.probe)
    found.save(directory / NETWORK_DIRECTORY)
    history = {key: [float(value) for value in values] for key, values in description.history.items()}
    if job.refinement is None:
        verdict = judged(raw, found, None, job, _last_tenth(send), should_stop)
        return {"stopped": False, "history": history, "verdict": verdict}
    del prediction, canvas  # the patches of all groups are much larger than all that follows
    send("network", history=history)
    refinement = job.refinement
    if description.data.any_probe:  # what it predicts with are the scan's modes alone
        refinement = dataclasses.replace(refinement, probe_modes=max(job.probe_modes or 1, len(found.probe)))
    try:
        return _refine(raw, found, refinement, job, directory, send, should_stop)
    except StartError as exc:
        raise ValueError(
            f"The network's object cannot be refined: {exc} Train for longer, or set "
            "PtychoPINNPluginRefinement.Epochs to 0 to have the network's object alone."
        ) from exc


def refine_start(
    job: RefineJob, directory: Path, send: Send, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Refine what the parent has left; leave it in ``directory``, return the fields of the result."""
    raw = examined(RawData.from_directory(directory / DATA_DIRECTORY), job.examination, send)
    start = Estimate.load(directory / START_DIRECTORY)
    try:
        return _refine(raw, start, job.refinement, job, directory, send, should_stop)
    except StartError as exc:
        raise ValueError(str(exc)) from exc


def _spread_groups(container: PtychoDataContainer) -> NDArray[np.int64]:
    """Numbers of evenly spread groups that together have as many members as there are patterns.

    More of them make a better object to look at, and hardly a better one to start a refinement from: its
    own passes cost less.
    """
    channels = container.gridsize**2
    order = neighbourhood_order(container.coords[container.nn_indices[:, 0]])  # of the groups' anchors
    return np.sort(order[channels // 2 :: channels])


def _refine(
    raw: RawData,
    start: Estimate,
    config: RefinementConfig,
    job: ReconstructJob | RefineJob,
    directory: Path,
    send: Send,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    refined = refine(
        raw,
        start.object,
        start.probe,
        config,
        report=lambda report: send("refinement", **dataclasses.asdict(report)),
        progress=lambda fraction: send("progress", fraction=0.9 * fraction),
        should_stop=should_stop,
        device=job.device,
    )
    positions = refined.positions if config.positions else None
    found = Estimate(refined.object, refined.probe, positions)
    found.save(directory / REFINED_DIRECTORY)
    return {
        "stopped": False,
        "errors": refined.history,
        "start_error": refined.start_error,
        "error": refined.error,
        "verdict": judged(raw, found, refined, job, _last_tenth(send), should_stop),
    }


def _last_tenth(send: Send) -> Callable[[float], None]:
    """Reports the progress of the verdict, which comes last."""
    return lambda fraction: send("progress", fraction=0.9 + 0.1 * float(fraction))


def _check_model(description: ModelDescription, raw: RawData, job: ReconstructJob) -> None:
    path, model = job.config.model_path, description.model
    if not fits_size(model, description.data, raw.N):
        raise ModelFileError(
            f'The model "{path}" was trained on patterns of N = {model.N} pixels, but these are of '
            f"N = {raw.N}. Train a model on such patterns, or crop or bin the patterns to N = {model.N}."
        )
    if model.model_type != job.model_type:
        logger.warning(
            'The model "%s" was trained as "%s", not "%s"; it is applied as it is.',
            path,
            model.model_type,
            job.model_type,
        )


def run_job(job: Job, directory: Path, send: Send, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Run one job, in whichever process this is, and return the fields of its result message.

    Parameters
    ----------
    directory
        The job's: scans lie in it, and objects are left in it.
    send
        Called with the kind and the fields of each message, see :mod:`.job`.
    should_stop
        Asked after every batch; when it answers True, the best state so far is kept.
    """
    try:
        if isinstance(job, TrainJob):
            return train(job, send, should_stop, directory)
        if isinstance(job, PretrainJob):
            return pretrain(job, directory, send, should_stop)
        if isinstance(job, RefineJob):
            return refine_start(job, directory, send, should_stop)
        return reconstruct(job, directory, send, should_stop)
    except InterruptedError:
        return {"stopped": True}


def main(directory: Path) -> int:
    """Run the job in ``directory``; the exit code is for people, the parent reads the messages."""
    channel = Channel()
    stop = threading.Event()
    orphaned = threading.Event()
    listen_for_stop(stop, orphaned, directory)
    try:
        job = read_job(directory)
        root = logging.getLogger()
        root.addHandler(ChannelHandler(channel))
        root.setLevel(job.log_level)
        result = run_job(job, directory, channel.send, stop.is_set)
    except BaseException as exc:
        channel.send("error", **describe_error(exc))
        return 1
    else:
        channel.send("result", **result)
    finally:
        if orphaned.is_set():  # whoever would have removed it is gone
            shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
