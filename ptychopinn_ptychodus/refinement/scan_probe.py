"""The probe of a scan, found by a refinement before a network is trained with it.

A network's training sees a few patterns at a time and has a few hundred steps. A probe that learns with it,
pixel by pixel, takes on the noise of these groups, and what an object that is only being found lacks: on an
exact raster under a weak object, a right probe was spoilt. All patterns at once, from an object that starts
anew, tell the probe as well as the refinement that comes afterwards, in a small part of the training's time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data.raw import RawData
from .arrays import Arrays, arrays_for
from .config import RefinementConfig
from .measured import Measured
from .noise import PHOTONS, left_by_photons
from .position_terms import moved_by
from .pupil import where_patterns_differ
from .report import Refined
from .solver import refine
from .trials import CLEARLY_BETTER

logger = logging.getLogger(__name__)

_PIXELS = 1 << 23  # of the patterns: more tell no more of a probe that all of them share
_LEAST_PATTERNS = 25  # with fewer, object and probe have more unknowns than there are data
_NEIGHBOURS = 3
_OVERLAP = 0.7  # of the probe's width, where its neighbours still have the better part of its light
_NEAR_NOISE = 1.08  # times what photons leave: beyond it, modes may explain what is not found yet
_BETTER = 0.99  # of the error, for further modes where nothing but noise is left
_OF_NOISE = 3.0
"""... and times what so many unknowns take of the noise: modes of a coherent beam took that once at most."""


def found_probe(
    raw: RawData,
    modes: int,
    *,
    device: str | Arrays,
    should_stop: Callable[[], bool],
    on_progress: Callable[[float], None] | None = None,
) -> NDArray[np.complex64] | None:
    """The probe that explains a scan best, from the one that it has.

    Parameters
    ----------
    raw
        The scan, or several, of which the largest counts.
    modes
        How many modes it may have; those that its own probe lacks have to earn their place.
    device
        As :func:`.arrays.arrays_for` takes it, or its result.
    should_stop
        Asked before every batch.
    on_progress
        Called after every batch with the part of the work that is done, 0 to 1.

    Returns
    -------
    ndarray or None
        (modes or fewer, N, N) complex64; None where patterns hardly overlap, or are few, so that object and
        probe do not determine each other, if nothing is gained, or if it was asked to stop.
    """
    scan = _part(raw)
    if not _overlaps(scan):
        return None
    config = RefinementConfig()
    start = _flat(scan)

    further = modes - len(scan.probeGuess)
    parts = 2 if further > 0 else 1

    def refined(count: int, part: int) -> Refined:
        def tell(fraction: float) -> None:
            if on_progress is not None:
                on_progress((part + fraction) / parts)

        return refine(
            scan,
            start,
            scan.probeGuess,
            replace(config, probe_modes=count),
            on_progress=tell,
            should_stop=should_stop,
            device=device,
            quiet=True,
        )

    try:
        best = refined(len(scan.probeGuess), 0)
    except ValueError as exc:  # what is wrong with such a scan, or its probe, a training says itself
        logger.debug("The probe is not looked for: %s", exc)
        return None
    if best.stopped or not best.error < best.start_error:
        return None
    if further > 0:
        more = refined(modes, 1)
        if more.stopped:
            return None
        if _earn_their_place(scan, further, best, more):
            best = more
    if best.conjugated:
        logger.warning(
            "The patterns contradict the probe that was given, and agree with its COMPLEX CONJUGATE, which "
            "is used instead. Either the probe is from the other side of the focus, or the signs of both "
            "position axes are wrong, and the true object is turned by 180 degrees; the patterns cannot tell "
            "which. Reconstructions will say more."
        )
    return best.probe


def _earn_their_place(scan: RawData, further: int, without: Refined, having: Refined) -> bool:
    """Whether so many further modes explain more than noise, or than what is not found yet."""
    measured = Measured.of(scan, arrays_for("cpu"))
    light = float(measured.mean.sum())  # errors are over the counts
    noise = left_by_photons(measured.mean, measured.per_photon, having.metric) / light
    if without.error > _NEAR_NOISE * noise:
        return having.error - noise < CLEARLY_BETTER * (without.error - noise)
    unknowns = 2 * further * scan.N**2
    by_chance = PHOTONS * measured.per_photon * unknowns / (light * len(measured.sound))
    return having.error < min(_BETTER * without.error, without.error - _OF_NOISE * by_chance)


def _part(raw: RawData) -> RawData:
    """Of the largest scan, as many patterns as tell enough, on a canvas of their own."""
    numbers, sizes = np.unique(raw.scan_index, return_counts=True)
    scan = raw if len(numbers) == 1 else raw.select(raw.scan_index == numbers[sizes.argmax()])
    if scan.n_patterns * scan.N**2 > _PIXELS:
        scan = scan.select(where_patterns_differ(scan, _PIXELS))
    corner = np.array([scan.xcoords.min(), scan.ycoords.min()])
    return moved_by(scan, np.broadcast_to(scan.N / 2 - corner, (scan.n_patterns, 2)))


def _flat(scan: RawData) -> NDArray[np.complex64]:
    height, width = (math.ceil(axis.max() + scan.N / 2) for axis in (scan.ycoords, scan.xcoords))
    return np.ones((height, width), np.complex64)


def _overlaps(scan: RawData) -> bool:
    """Whether most patterns share most of the light's place with some others."""
    if scan.n_patterns < _LEAST_PATTERNS:
        return False
    light = (np.abs(scan.probeGuess).astype(np.float64) ** 2).sum(0)
    width = 2.0 * math.sqrt(float(light.sum() ** 2 / (light**2).sum()) / math.pi)
    where = np.stack((scan.xcoords, scan.ycoords), -1)
    distance = cKDTree(where).query(where, _NEIGHBOURS + 1)[0][:, -1]
    return float(np.median(distance)) < _OVERLAP * width
