"""What the worker does for a :class:`~.job.TrainJob`: read, examine, group, learn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.base import Beginning
from ..backends.beginning import own_probe
from ..backends.registry import get_engine
from ..config import TrainingConfig
from ..data.raw import RawData
from ..formatting import counted
from ..ptychodus_io.ingest import TrainingData, read_training_directory, require_object, require_same
from .beginning import read_beginning
from .examination import examined
from .job import DATA_DIRECTORY, VALIDATION_DIRECTORY, TrainJob
from .preview import PreviewWriter
from .training_messages import TrainingMessages
from .wire import Send

logger = logging.getLogger("PtychoPINN-Plugin")


def train(
    job: TrainJob, send: Send, should_stop: Callable[[], bool], directory: Path | None = None
) -> dict[str, Any]:
    """Train and return the fields of the result message; ``directory`` is the job's."""
    asked = job.asked
    engine = get_engine(asked.backend)
    engine.require()
    # before minutes are spent on data
    beginning = read_beginning(engine, job.model_path, start_model=job.start_model, resume=job.resume)
    if asked.train_data_file is not None:
        data = read_training_directory(
            asked.train_data_file,
            job.examination,
            lambda raw, source: examined(raw, job.examination, send, source),
        )
    else:
        assert directory is not None
        data = _handed_over(directory, lambda raw: examined(raw, job.examination, send))
    if asked.model_type == "supervised":
        require_object(data.train, data.source)
        if data.test is not None:
            require_object(data.test, data.source)
    raw = data.train
    if asked.n_subsample is not None:
        raw = raw.subsample(asked.n_subsample, asked.seed)
    training, validation = raw, data.test
    if validation is None:
        training, validation = _hold_out(raw, job)

    config = asked.complete(
        raw.N,
        n_groups=asked.training.get("n_groups") or asked.automatic_groups(training.n_patterns),
        probe_modes=_probe_modes(asked.training.get("probe_modes"), len(training.probeGuess), beginning),
        nphotons=training.photons_per_pattern,
    )

    logger.info(
        "Training on %d patterns of %d × %d (%s), %d for validation, in %s of %d groups, with %s.",
        training.n_patterns,
        raw.N,
        raw.N,
        data.source,
        0 if validation is None else validation.n_patterns,
        counted(config.nepochs, "epoch"),
        config.n_groups,
        engine.title,
    )
    container = training.grouped_for(config, config.n_groups)
    held_out = None
    if validation is not None:
        enough = asked.automatic_groups(validation.n_patterns)
        held_out = validation.grouped_for(config, None if enough == validation.n_patterns else enough)
    messages = TrainingMessages(
        send,
        [container, held_out],
        config.batch_size,
        config.nepochs,
        tell_batches=job.tell_batches,
        history=beginning.state.history if beginning is not None and beginning.state is not None else None,
    )
    result = engine.train(
        container,
        held_out,
        config,
        job.execution,
        model_path=job.model_path,
        on_batch=messages.on_batch,
        on_epoch=messages.on_epoch,
        should_stop=should_stop,
        preview=_previews(raw, config, job, send),
        **{} if beginning is None else {"beginning": beginning},
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


def _previews(raw: RawData, config: TrainingConfig, job: TrainJob, send: Send) -> PreviewWriter | None:
    if not job.preview:
        return None
    try:
        # of the whole scan: what is held out would be a hole in the picture
        container = raw.grouped_for(config, None)
        return PreviewWriter(container, job.model_path.parent, lambda epoch: send("preview", epoch=epoch))
    except ValueError as exc:  # of patterns, it may be, that are not learnt from
        logger.warning("There will be no preview: %s", exc)
        return None


def _probe_modes(wanted: int | None, present: int, beginning: Beginning | None) -> int:
    """Modes of the probe that is learnt; ``present`` are those of the scan's own probe."""
    if beginning is not None and beginning.state is not None:
        # what it has begun with may have been a model's probe, of more modes than the scan's
        return max(wanted or 0, present, beginning.state.training.probe_modes or 0)
    learnt = None if beginning is None or beginning.model is None else own_probe(beginning.model)
    if learnt is not None:
        present = len(learnt)
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
    training, validation = raw.split(job.validation_fraction, job.asked.seed)
    channels = job.asked.channels
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
