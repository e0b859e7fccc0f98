"""Simulates scans of made objects, and joins them to one training set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.container import PtychoDataContainer
from ..data.joining import joined
from ..data.probe import probe_width
from ..data.raw import RawData
from ..data.simulation import raster_positions, simulate_scan
from .config import PretrainingConfig
from .objects import ObjectMaker, random_object
from .probes import partly_coherent, random_probe, rough_probe

_MARGIN_PX = 4


@dataclass(frozen=True)
class TrainingSet:
    """Grouped data to learn from, and those of other objects to validate with."""

    training: PtychoDataContainer
    validation: PtychoDataContainer


def make_training_set(
    config: PretrainingConfig,
    probes: Sequence[NDArray[np.complex64]] = (),
    *,
    make_object: ObjectMaker = random_object,
    with_objects: bool = True,
    on_progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingSet:
    """Simulate the scans that ``config`` asks for, each with the next one of ``probes`` or with a made one.

    Parameters
    ----------
    config
        Number and ranges of the scans.
    probes
        (modes, N, N) complex64 each, of any scale; N is ``config.size``.
    make_object
        Called for each scan with the shape of its object and a source of random numbers.
    with_objects
        Whether the objects are kept, for an objective that compares with them. To scale them takes as long as
        the patterns take to be made.
    on_progress
        Called with the part of the scans that is done, 0 to 1.
    should_stop
        Asked before each scan.

    Raises
    ------
    ValueError
        If a probe is not of ``config.size``.
    InterruptedError
        If ``should_stop`` answered True.
    """
    for number, probe in enumerate(probes):
        if probe.ndim != 3 or probe.shape[1:] != (config.size, config.size):
            raise ValueError(
                f"Probe {number} has shape {probe.shape}: use (modes, {config.size}, {config.size}), or "
                "another size."
            )
    count = config.scans + config.validation_scans
    scans, shown = [], []
    # each scan has random numbers of its own: its object does not depend on how many scans there are
    for number, seed in enumerate(np.random.SeedSequence(config.seed).spawn(count)):
        if should_stop is not None and should_stop():
            raise InterruptedError("The making of scans was stopped.")
        rng = np.random.default_rng(seed)
        probe = probes[number % len(probes)] if probes else _made_probe(config, rng)
        scan = _grouped(random_scan(probe, config, rng, make_object), config, rng)
        scans.append(scan)
        # last: the patterns are the same, whatever is shown beside them
        shown.append(rough_probe(scan.probe, rng) if rng.random() < config.probe_errors else scan.probe)
        if on_progress is not None:
            on_progress((number + 1) / count)
    held_out = config.validation_scans
    learnt, seen = (
        joined(scans[part], with_objects=with_objects, shown=shown[part] if config.probe_errors else None)
        for part in (slice(held_out, None), slice(held_out))
    )
    return TrainingSet(training=learnt, validation=seen)


def _made_probe(config: PretrainingConfig, rng: np.random.Generator) -> NDArray[np.complex64]:
    probe = random_probe(config.size, rng)
    return probe if config.most_modes == 1 else partly_coherent(probe, config.most_modes, rng)


def random_scan(
    probe: NDArray[np.complex64],
    config: PretrainingConfig,
    rng: np.random.Generator,
    make_object: ObjectMaker = random_object,
) -> RawData:
    """A scan of a made object: step, jitter, orientation and dose are drawn from the ranges of ``config``."""
    step = rng.uniform(config.least_step, config.most_step) * probe_width(probe)
    # how many steps away neighbours are in a corner of the scan; groups that reach over N/2 are refused
    step = min(step, config.size / 2 / math.ceil(math.sqrt(config.neighbor_count + 1)))
    side = config.positions
    x, y = raster_positions(
        side,
        side,
        step,
        jitter=rng.uniform(0.05, 0.35),
        origin=-step * (side - 1) / 2,
        seed=int(rng.integers(2**31)),
    )
    angle, stretch = rng.uniform(0, 2 * math.pi), rng.uniform(0.85, 1.0)
    x, y = (
        x * math.cos(angle) - stretch * y * math.sin(angle),
        x * math.sin(angle) + stretch * y * math.cos(angle),
    )
    reach = max(float(np.abs(x).max()), float(np.abs(y).max()))
    edge = 2 * math.ceil(reach + config.size / 2 + _MARGIN_PX)
    object_ = make_object((edge, edge), rng)
    photons = math.exp(rng.uniform(math.log(config.least_photons), math.log(config.most_photons)))
    middle = (edge - 1) / 2
    return simulate_scan(object_, probe, x + middle, y + middle, photons, int(rng.integers(2**31)))


def _grouped(raw: RawData, config: PretrainingConfig, rng: np.random.Generator) -> PtychoDataContainer:
    return raw.generate_grouped_data(
        raw.N,
        config.neighbor_count,
        config.groups_per_scan,
        gridsize=config.gridsize,
        seed=int(rng.integers(2**31)),
    )
