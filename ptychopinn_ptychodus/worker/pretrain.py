"""What the worker does for a :class:`~.job.PretrainJob`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backends.registry import get_engine
from ..pretraining.scans import make_training_set
from ..ptychodus_io.names import LIBRARY
from .beginning import for_engine, history_of, read_beginning
from .job import PretrainJob, load_probes
from .training_messages import TrainingMessages
from .wire import Send

logger = logging.getLogger(LIBRARY)

_MAKING = 0.05  # part of the work, next to nothing of the time


def pretrain(
    job: PretrainJob, directory: Path, send: Send, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Make scans, learn from them, and return the fields of the result message."""
    engine = get_engine(job.asked.backend)
    engine.require()  # before minutes are spent on scans
    beginning = read_beginning(engine, job.model_path, resume=job.resume)
    probes = load_probes(directory)
    data = make_training_set(
        job.pretraining,
        probes,
        with_objects=job.asked.complete(job.pretraining.size).needs_object,
        on_progress=lambda fraction: send("progress", fraction=_MAKING * fraction),
        should_stop=should_stop,
    )
    logger.info(
        "Pretraining on %d groups of %d made scans under %s, %d scans for validation, with %s.",
        len(data.training),
        job.pretraining.scans,
        f"{len(probes)} given probes" if probes else "made probes",
        job.pretraining.validation_scans,
        engine.title,
    )
    if job.pretraining.probe_errors:
        logger.info(
            "The network is shown a rough probe in %.0f %% of the scans, and judged by the true one.",
            100 * job.pretraining.probe_errors,
        )
    config = job.asked.complete(job.pretraining.size, n_groups=len(data.training))
    containers = [data.training, data.validation]
    messages = TrainingMessages(
        send,
        containers,
        config.batch_size,
        config.nepochs,
        begin=_MAKING,
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
        **for_engine(beginning),
    )
    return {"stopped": result.stopped}
