"""What a training learns from: scans read and examined, patterns held out, and groups made."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..backends.base import Beginning
from ..backends.beginning import own_probe
from ..config import TrainingConfig
from ..data.container import PtychoDataContainer
from ..data.examination import Report
from ..data.joining import joined
from ..data.raw import RawData
from ..formatting import counted
from ..ptychodus_io.ingest import TrainingData, read_training_directory, require_object, require_same
from ..ptychodus_io.names import LIBRARY
from ..ptychodus_io.several import OnDamaged, each_scan, left_out, require_one_size
from ..refinement.scan_probe import found_probe
from .examination import examined, tell
from .job import DATA_DIRECTORY, VALIDATION_DIRECTORY, TrainJob
from .training_messages import telling_progress
from .wire import Send

logger = logging.getLogger(LIBRARY)

_PROBE_SHARE = 0.2
"""Of a training's time, that it takes to find the probe: a tenth to a third of it was measured."""


@dataclass(frozen=True)
class Prepared:
    """What an engine is given.

    Attributes
    ----------
    training, validation
        Grouped data; without ``validation`` all are learnt from.
    config
        The whole configuration.
    patterns, held_out
        Number of patterns that are learnt from, and of those to validate with.
    source
        Which files they are from, for people.
    whole
        The scan, for previews: that which is held out would be a hole in the picture. None where the scans
        have different probes, and with them no picture.
    begun
        Part of the job that is done by then, 0 to 1.
    """

    training: PtychoDataContainer
    validation: PtychoDataContainer | None
    config: TrainingConfig
    patterns: int
    held_out: int
    source: str
    whole: RawData | None
    begun: float = 0.0


def prepare(
    job: TrainJob,
    send: Send,
    should_stop: Callable[[], bool],
    directory: Path | None,
    beginning: Beginning | None,
) -> Prepared:
    """Read and group what ``job`` names, or what the parent has left in the job's ``directory``.

    A probe that is to be learnt is found from the patterns first, which asks ``should_stop``.

    Raises
    ------
    ExaminationError
        If a scan is refused.
    ValueError, OSError
        If the data cannot be used; the message names the scan.
    """
    data = _read(job, send, directory)
    if data.has_several_probes:
        return _of_several_probes(data, job, send)
    return _of_one_probe(data, job, send, should_stop, beginning)


# ---- reading ----------------------------------------------------------------------------------------------


def _read(job: TrainJob, send: Send, directory: Path | None) -> TrainingData:
    path = job.asked.train_data_file
    if path is not None:
        return read_training_directory(
            path,
            job.examination,
            lambda raw, source: examined(raw, job.examination, send, source),
            on_scan=partial(_tell_of_scan, send),
            on_damaged=_left_out(job, send),
        )
    assert directory is not None
    return _handed_over(directory, job, send)


def _handed_over(directory: Path, job: TrainJob, send: Send) -> TrainingData:
    """The scans that the parent has left in the job's directory."""
    training, validation = directory / DATA_DIRECTORY, directory / VALIDATION_DIRECTORY

    def read(path: Path, source: str = "") -> RawData:
        return examined(RawData.from_directory(path), job.examination, send, source)

    if job.scans:
        places = {name: training / str(number) for number, name in enumerate(job.scans)}
        # the parent has left damaged ones out, and said so
        make = {name: partial(read, place, name) for name, place in places.items() if place.is_dir()}
        scans = each_scan(make, on_scan=partial(_tell_of_scan, send), on_damaged=_left_out(job, send))
        require_one_size(scans)
    else:
        scans = {"the scan": read(training)}
    data = TrainingData(scans, None, ", ".join(scans))
    if not validation.is_dir():
        return data
    test = read(validation)
    first = next(iter(scans))
    if data.has_several_probes:
        require_one_size({first: scans[first], "the validation scan": test})
    else:
        require_same(scans[first], first, test, "the validation scan")
    return TrainingData(scans, test, data.source)


def _tell_of_scan(send: Send, name: str, number: int, count: int) -> None:
    logger.info("Scan %d of %d: %s.", number, count, name)
    send("scan", name=name, number=number, count=count)


def _left_out(job: TrainJob, send: Send) -> OnDamaged | None:
    """What is done about a scan that is damaged, if the training may do without it."""
    if not job.skip_damaged:
        return None

    def note(name: str, exc: Exception) -> None:
        tell(Report((left_out(name, exc),)), send)

    return note


# ---- scans of one probe -----------------------------------------------------------------------------------


def _of_one_probe(
    data: TrainingData,
    job: TrainJob,
    send: Send,
    should_stop: Callable[[], bool],
    beginning: Beginning | None,
) -> Prepared:
    asked = job.asked
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
    begun = 0.0
    if config.probe_trainable and beginning is not None and beginning.state is not None:
        then = beginning.state.training  # where the probe was found, or learns with the network
        config = dataclasses.replace(
            config, probe_trainable=then.probe_trainable, probe_modes=then.probe_modes
        )
    elif config.probe_trainable and not _has_probe(beginning):
        training, config = _with_probe_found(training, config, job, send, should_stop)
        begun = _PROBE_SHARE
    held_out = None
    if validation is not None:
        enough = asked.automatic_groups(validation.n_patterns)
        held_out = validation.grouped_for(config, None if enough == validation.n_patterns else enough)
    return Prepared(
        training.grouped_for(config, config.n_groups),
        held_out,
        config,
        training.n_patterns,
        0 if validation is None else validation.n_patterns,
        data.source,
        raw,
        begun,
    )


def _has_probe(beginning: Beginning | None) -> bool:
    """Whether the training begins with a probe that a model has learnt."""
    return beginning is not None and beginning.model is not None and own_probe(beginning.model) is not None


def _with_probe_found(
    training: RawData, config: TrainingConfig, job: TrainJob, send: Send, should_stop: Callable[[], bool]
) -> tuple[RawData, TrainingConfig]:
    """The scan with the probe that explains it best, and a training that leaves that as it is.

    Where the patterns alone do not tell the probe, it learns with the network, as it was asked for.
    """
    logger.info("The probe is found from the patterns before the network is trained with it.")
    wanted = config.probe_modes or len(training.probeGuess)
    probe = found_probe(
        training,
        wanted,
        device=job.device,
        should_stop=should_stop,
        on_progress=telling_progress(send, 0.0, _PROBE_SHARE),
    )
    if probe is None:
        return training, config
    scan = training.select(slice(None))  # shares the patterns
    scan.probeGuess = probe
    return scan, dataclasses.replace(config, probe_trainable=False, probe_modes=len(probe))


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


# ---- scans of several probes ------------------------------------------------------------------------------


def _of_several_probes(data: TrainingData, job: TrainJob, send: Send) -> Prepared:
    """Groups of each scan, in proportion to its patterns, with the scan's own probe, exposure and mask."""
    asked = job.asked
    if asked.model_type == "supervised":
        raise ValueError(
            f"The scans ({data.source}) have different probes, and Supervised learns from scans of one. Keep "
            "the scans of one probe in the directory, or choose the reconstructor PINN."
        )
    logger.info(
        "The scans have different probes: the model is one for any probe. Each scan's probe and scale are "
        "taken as they are, and there is no preview."
    )
    patterns = sum(len(raw) for raw in data.scans.values())
    part = min(1.0, (asked.n_subsample or patterns) / patterns)
    halves: dict[str, tuple[RawData, RawData | None]] = {}
    for name, raw in data.scans.items():
        taken = raw if part == 1.0 else raw.subsample(max(1, round(part * len(raw))), asked.seed)
        halves[name] = (taken, None) if data.test is not None else _hold_out(taken, job)
    learnt = sum(len(training) for training, _ in halves.values())
    total = asked.training.get("n_groups") or asked.automatic_groups(learnt)
    config = asked.complete(
        next(iter(data.scans.values())).N,
        n_groups=total,
        nphotons=1.0,  # the patterns of each scan are divided by its own
        # for one probe, which here there is not
        probe_modes=None,
        probe_trainable=False,
        intensity_scale_trainable=False,
    )

    training = each_scan(
        {name: partial(_share, half[0], config, total, learnt) for name, half in halves.items()},
        on_damaged=_left_out(job, send),
    )
    held_out: dict[str, RawData] = {}
    if data.test is not None:
        held_out["the validation scan"] = data.test
    else:
        held_out |= {
            name: half[1] for name, half in halves.items() if half[1] is not None and name in training
        }
    count = sum(len(raw) for raw in held_out.values())
    enough = asked.automatic_groups(count) if count else 0
    validation = each_scan(
        {name: partial(_share, raw, config, enough, count) for name, raw in held_out.items()}
    )
    return Prepared(
        joined(list(training.values())),
        joined(list(validation.values())) if validation else None,
        config,
        sum(len(halves[name][0]) for name in training),
        count,
        f"{counted(len(training), 'scan')}: {data.source}",
        None,
    )


def _share(raw: RawData, config: TrainingConfig, groups: int, patterns: int) -> PtychoDataContainer:
    """As many of all ``groups`` as the scan has of all ``patterns``."""
    return raw.grouped_for(config, max(1, round(groups * len(raw) / patterns)))
