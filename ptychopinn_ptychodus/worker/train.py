"""What the worker does for a :class:`~.job.TrainJob`: read, examine, group, learn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backends.registry import get_engine
from ..formatting import counted
from ..ptychodus_io.names import LIBRARY
from .beginning import for_engine, history_of, read_beginning
from .job import TrainJob
from .preview import PreviewWriter
from .training_data import Prepared, prepare
from .training_messages import TrainingMessages
from .wire import Send

logger = logging.getLogger(LIBRARY)


def train(
    job: TrainJob, send: Send, should_stop: Callable[[], bool], directory: Path | None = None
) -> dict[str, Any]:
    """Train and return the fields of the result message; ``directory`` is the job's."""
    engine = get_engine(job.asked.backend)
    engine.require()
    # before minutes are spent on data
    beginning = read_beginning(engine, job.model_path, start_model=job.start_model, resume=job.resume)
    data = prepare(job, send, should_stop, directory, beginning)
    config = data.config
    logger.info(
        "Training on %d patterns of %d × %d (%s), %d for validation, in %s of %d groups, with %s.",
        data.patterns,
        config.model.N,
        config.model.N,
        data.source,
        data.held_out,
        counted(config.nepochs, "epoch"),
        len(data.training),
        engine.title,
    )
    messages = TrainingMessages(
        send,
        [data.training, data.validation],
        config.batch_size,
        config.nepochs,
        begin=data.begun,
        tell_batches=job.tell_batches,
        history=history_of(beginning),
    )
    result = engine.train(
        data.training,
        data.validation,
        config,
        job.execution,
        model_path=job.model_path,
        on_batch=messages.on_batch,
        on_epoch=messages.on_epoch,
        should_stop=should_stop,
        preview=_previews(data, job, send),
        **for_engine(beginning),
    )
    return {"stopped": result.stopped}


def _previews(data: Prepared, job: TrainJob, send: Send) -> PreviewWriter | None:
    if not job.preview or data.whole is None:
        return None
    try:
        container = data.whole.grouped_for(data.config, None)
        return PreviewWriter(container, job.model_path.parent, lambda epoch: send("preview", epoch=epoch))
    except ValueError as exc:  # of patterns, it may be, that are not learnt from
        logger.warning("There will be no preview: %s", exc)
        return None
