"""What the worker does for a :class:`~.job.ReconstructJob` and a :class:`~.job.RefineJob`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.any_probe import fits_size
from ..backends.base import ModelDescription, ModelFileError
from ..backends.inference_checks import require_as_asked, require_untouched
from ..backends.physics import other_exposure
from ..backends.registry import engine_for, guess_engine
from ..data.container import PtychoDataContainer
from ..data.estimate import Estimate
from ..data.examination import Report
from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from ..ptychodus_io.names import LIBRARY
from ..refinement import RefinementConfig
from ..refinement.chosen_start import Start, better_start, chosen_start
from ..refinement.report import Refined
from ..refinement.scan_probe import better_probe
from ..refinement.solver import error_of_start, refine
from ..refinement.start import StartError
from ..verdict import little_overlap, nearly_noise
from .confidence import with_confidence
from .examination import examined, judged, tell
from .job import (
    DATA_DIRECTORY,
    NETWORK_DIRECTORY,
    REFINED_DIRECTORY,
    START_DIRECTORY,
    ReconstructJob,
    RefineJob,
)
from .memory import give_back_free_memory
from .training_messages import telling_progress
from .wire import Send

logger = logging.getLogger(LIBRARY)

_OF_VERDICT, _OF_CONFIDENCE = 0.1, 0.15
"""Parts of the progress, roughly of the time, that come after the refinement."""

_OF_STITCHING = 0.1  # of a network's progress, whose object is refined afterwards

_PROBE_SHARE = 0.3
"""Of a network's part of the progress, that it takes to find the probe."""


def reconstruct(
    job: ReconstructJob, directory: Path, send: Send, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Apply the model, stitch, refine; leave it in ``directory``, return the fields of the result."""
    path = job.asked.model_path
    # by the rule of the parent, whose choice is in what it asks for
    engine = engine_for(path, job.asked.backend)
    writer = guess_engine(path)
    if writer is not engine:
        logger.info(
            'The model "%s" was written by %s, which is not installed: it is converted for %s.',
            path,
            writer.title,
            engine.title,
        )
    description = writer.describe(path)
    model = description.model
    config = job.asked.complete(model)
    require_as_asked(config, description, path, engine.name, any_size=description.data.any_probe)
    require_untouched(config, ("test_data_file", "n_subsample", "debug", "output_dir"), "in Ptychodus")
    raw = examined(RawData.from_directory(directory / DATA_DIRECTORY), job.examination, send)
    _check_model(description, raw, job)
    begin, seen = 0.0, raw
    if description.data.any_probe and job.find_probe:
        begin, seen = _PROBE_SHARE, _with_probe_found(raw, job, send, should_stop)
    container = seen.generate_grouped_data(
        raw.N,
        config.neighbor_count,
        config.n_groups,  # None: every pattern is an anchor
        gridsize=model.gridsize,
        seed=config.subsample_seed,
    )
    finding = other_exposure(description.data, container)
    if finding is not None:
        tell(Report((finding,)), send)
    _tell_of_overlap(raw, send, of_single_frames=model.channels == 1)
    if config.n_groups is None and job.refinement is not None:
        container = container.subset(_spread_groups(container))
    logger.info("Reconstructing %d groups of %d patterns with %s.", *container.nn_indices.shape, engine.title)
    # before a refinement, the rest is stitching; else it is the verdict and what follows
    of_network = _before_verdict(job) if job.refinement is None else 1.0 - _OF_STITCHING
    prediction = engine.predict(
        path,
        container,
        job.execution,
        on_progress=telling_progress(send, begin, of_network),
        should_stop=should_stop,
    )
    give_back_free_memory()
    canvas = prediction.stitch(container, job.shape)
    found = Estimate(canvas.object, prediction.probe)
    found.save(directory / NETWORK_DIRECTORY)
    history = {key: [float(value) for value in values] for key, values in description.history.items()}
    del prediction, canvas, container  # much larger, with the patches of all groups, than all that follows
    give_back_free_memory()
    if job.refinement is None:
        dim = nearly_noise(raw, job.shape, found.probe, device=job.device)
        if dim is not None:
            tell(Report((dim,)), send)
        verdict = _judged(raw, found, None, job, directory, send, should_stop)
        return {"stopped": False, "history": history, "verdict": verdict}
    send("network", history=history)
    refinement = job.refinement
    if description.data.any_probe:  # what it predicts with are the scan's modes alone
        refinement = dataclasses.replace(refinement, probe_modes=max(job.probe_modes or 1, len(found.probe)))
    try:
        return _refine(raw, found, refinement, job, directory, send, should_stop, of_network=True)
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
    _tell_of_overlap(raw, send, of_single_frames=False)
    try:
        object_, name = chosen_start(
            raw, start.object, start.probe, job.refinement, job.start, device=job.device
        )
        start = Estimate(object_, start.probe)
        return {"start": name, **_refine(raw, start, job.refinement, job, directory, send, should_stop)}
    except StartError as exc:
        raise ValueError(str(exc)) from exc


def _tell_of_overlap(raw: RawData, send: Send, *, of_single_frames: bool) -> None:
    """Tell if it does not determine the object."""
    finding = little_overlap(raw, of_single_frames=of_single_frames)
    if finding is not None:
        tell(Report((finding,)), send)


def _with_probe_found(
    raw: RawData, job: ReconstructJob, send: Send, should_stop: Callable[[], bool]
) -> RawData:
    """The scan as a network for any probe is to see it: with a better probe, if its own is not right."""
    logger.info(
        "A network for any probe takes the scan's: whether that explains the patterns is tried first."
    )
    probe = better_probe(
        raw,
        max(job.probe_modes or 1, len(raw.probeGuess)),
        device=job.device,
        should_stop=should_stop,
        on_progress=telling_progress(send, 0.0, _PROBE_SHARE),
    )
    if probe is None:
        return raw
    seen = raw.select(slice(None))  # shares the patterns
    seen.probeGuess = probe
    return seen


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
    *,
    of_network: bool = False,
) -> dict[str, Any]:
    begin = network = Start(start.object, start.probe)
    if of_network:
        begin = better_start(raw, network, config, device=job.device, should_stop=should_stop)
    refined = refine(
        raw,
        begin.object,
        begin.probe,
        config,
        on_epoch=lambda report: send("refinement", **dataclasses.asdict(report)),
        on_progress=telling_progress(send, 0.0, _before_verdict(job)),
        should_stop=should_stop,
        device=job.device,
    )
    if begin.conjugated:  # the conjugate of a conjugate is the scan's own
        refined = dataclasses.replace(refined, conjugated=not refined.conjugated)
    if begin.object is not network.object:  # what was there before is the network's object all the same
        same = dataclasses.replace(config, metric=refined.metric)  # "auto" may be another for another object
        before = error_of_start(raw, network.object, network.probe, same, device=job.device)
        refined = dataclasses.replace(refined, start_error=before)
    positions = refined.positions if config.positions else None
    found = Estimate(refined.object, refined.probe, positions)
    found.save(directory / REFINED_DIRECTORY)
    return {
        "stopped": False,
        "errors": refined.history,
        "start_error": refined.start_error,
        "error": refined.error,
        "kept_start": refined.kept_start,
        "denoised": refined.denoised,
        "verdict": _judged(raw, found, refined, job, directory, send, should_stop),
    }


def _judged(
    raw: RawData,
    found: Estimate,
    refined: Refined | None,
    job: ReconstructJob | RefineJob,
    directory: Path,
    send: Send,
    should_stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """What is found of a result, which comes last: the verdict, and how far the object is to be believed."""
    judging = _before_verdict(job)
    done = judging + _OF_VERDICT
    verdict = judged(raw, found, refined, job, telling_progress(send, judging, done), should_stop)
    believed = telling_progress(send, done, 1.0)
    return verdict + with_confidence(raw, found, refined, job, directory, believed, should_stop)


def _before_verdict(job: ReconstructJob | RefineJob) -> float:
    """Part of the progress that stands for what comes before the verdict."""
    return 1.0 - _OF_VERDICT - (_OF_CONFIDENCE if job.examination.confidence else 0.0)


def _check_model(description: ModelDescription, raw: RawData, job: ReconstructJob) -> None:
    path, model = job.asked.model_path, description.model
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
