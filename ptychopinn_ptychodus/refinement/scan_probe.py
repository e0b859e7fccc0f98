"""The probe of a scan, found by a refinement before a network is trained with it, or applied with it.

A network's training sees a few patterns at a time and has a few hundred steps. A probe that learns with it,
pixel by pixel, takes on the noise of these groups, and what an object that is only being found lacks: on an
exact raster under a weak object, a right probe was spoilt. All patterns at once, from an object that starts
anew, tell the probe as well as the refinement that comes afterwards, in a small part of the training's time.

A network for any probe, as it is pretrained, takes the scan's at its word, and its object takes on whatever
is wrong with it. Where such a network is applied, a part of the patterns tells first whether the probe
explains them, and if it does not, which one does.
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
from .stages import Stages
from .trials import CLEARLY_BETTER

logger = logging.getLogger(__name__)

_PIXELS = 1 << 23  # of the patterns: more tell no more of a probe that all of them share
_PIXELS_TO_APPLY = 1 << 20
"""... where a network is only applied: finding the probe must not take longer than the network does."""
_LEAST_PATTERNS = 25  # with fewer, object and probe have more unknowns than there are data
_NEIGHBOURS = 3
_OVERLAP = 0.7  # of the probe's width, where its neighbours still have the better part of its light
_EXPLAINS = 2.0
"""Times what photons leave, up to which a scan's own probe is taken for right. Right ones left 0.9 to 1.6
times as much at up to 1e6 photons a pattern, since an object that starts anew is not all there after ten
epochs; those under which a network made a clearly worse object, 2.7 times and more."""
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
    scan = _part(raw, _PIXELS)
    if not _overlaps(scan):
        return None
    work = _Work(scan, modes, device, should_stop, on_progress)
    try:
        best = work.found()
    except ValueError as exc:  # what is wrong with such a scan, or its probe, a training says itself
        logger.debug("The probe is not looked for: %s", exc)
        return None
    if best is None:
        return None
    _tell_of_conjugate(best)
    return best.probe


def better_probe(
    raw: RawData,
    modes: int,
    *,
    device: str | Arrays,
    should_stop: Callable[[], bool],
    on_progress: Callable[[float], None] | None = None,
) -> NDArray[np.complex64] | None:
    """The probe to apply a network with, where the scan's own does not explain its patterns.

    An object that starts anew is fitted to a part of the patterns, first under the scan's own probe as it is.
    If that leaves little more than noise, there is nothing to find. What is found otherwise has to leave
    clearly less. The log says which it was.

    Parameters and result are those of :func:`found_probe`; None stands for the scan's own probe as well.
    """
    scan = _part(raw, _PIXELS_TO_APPLY)
    if not _overlaps(scan):
        logger.info("The scan's own probe is used: patterns that hardly overlap, or so few, do not tell it.")
        return None
    work = _Work(scan, modes, device, should_stop, on_progress, is_quick=True)
    try:
        given = work.given()
        noise = _noise(Measured.of(scan, arrays_for("cpu")), given)
        if given.stopped:
            return None
        if given.error <= _EXPLAINS * noise:
            logger.info(
                "The scan's own probe explains its patterns (error %.3g; noise alone leaves %.3g): it is "
                "used as it is.",
                given.error,
                noise,
            )
            return None
        best = work.found()
    except ValueError as exc:
        logger.warning("The scan's own probe is used, since no other can be looked for: %s", exc)
        return None
    if work.stopped:
        return None
    if best is None or not best.error - noise < CLEARLY_BETTER * (given.error - noise):
        logger.info(
            "The scan's own probe is used: it leaves an error of %.3g on %d patterns, and none was found "
            "that explains them clearly better.",
            given.error,
            scan.n_patterns,
        )
        return None
    logger.info(
        "The network is applied with a probe that was found from %d patterns (modes: %d): it leaves an error "
        "of %.3g where the scan's own leaves %.3g. The result has that probe.",
        scan.n_patterns,
        len(best.probe),
        best.error,
        given.error,
    )
    _tell_of_conjugate(best)
    return best.probe


class _Work:
    """Refinements of one scan from a flat object, one after the other, and how far they are.

    Quick ones take the positions as they are recorded, which is where a network puts its patches, and put the
    probe right in its pupil once.
    """

    def __init__(
        self,
        scan: RawData,
        modes: int,
        device: str | Arrays,
        should_stop: Callable[[], bool],
        on_progress: Callable[[float], None] | None,
        *,
        is_quick: bool = False,
    ) -> None:
        self._scan, self._start = scan, _flat(scan)
        self._further = max(modes - len(scan.probeGuess), 0)
        self._device, self._should_stop, self._on_progress = device, should_stop, on_progress
        self._is_quick = is_quick
        self._done, self._parts = 0, 1 + int(is_quick) + int(self._further > 0)
        self.stopped = False

    def given(self) -> Refined:
        """With the scan's own probe as it is."""
        return self._refined(self._scan.probeGuess, RefinementConfig(probe=False), Stages.NONE)

    def found(self) -> Refined | None:
        """With the best probe; None if nothing is gained, or if it was asked to stop."""
        own, config = self._scan.probeGuess, RefinementConfig()
        stages = Stages.PUPIL if self._is_quick else Stages.ALL
        best = self._refined(own, config, stages)
        if self.stopped or not best.error < best.start_error:
            return None
        if self._further:
            config = RefinementConfig(probe_modes=len(own) + self._further)
            begin, stages = (best.probe, Stages.NONE) if self._is_quick else (own, stages)
            more = self._refined(begin, config, stages)
            if self.stopped:
                return None
            if _earn_their_place(self._scan, self._further, best, more):
                best = replace(more, conjugated=best.conjugated or more.conjugated)
        return best

    def _refined(self, probe: NDArray[np.complex64], config: RefinementConfig, stages: Stages) -> Refined:
        def tell(fraction: float) -> None:
            if self._on_progress is not None:
                self._on_progress((self._done + fraction) / self._parts)

        found = refine(
            self._scan,
            self._start,
            probe,
            config,
            on_progress=tell,
            should_stop=self._should_stop,
            device=self._device,
            quiet=True,
            stages=stages,
        )
        self._done += 1
        self.stopped = self.stopped or found.stopped
        return found


def _tell_of_conjugate(best: Refined) -> None:
    if best.conjugated:
        logger.warning(
            "The patterns contradict the probe that was given, and agree with its COMPLEX CONJUGATE, which "
            "is used instead. Either the probe is from the other side of the focus, or the signs of both "
            "position axes are wrong, and the true object is turned by 180 degrees; the patterns cannot tell "
            "which. Reconstructions will say more."
        )


def _noise(measured: Measured, refined: Refined) -> float:
    """What photons alone leave of the error, as a refinement has it: over the counts."""
    left = left_by_photons(measured.mean, measured.per_photon, refined.metric)
    return left / float(measured.mean.sum())


def _earn_their_place(scan: RawData, further: int, without: Refined, having: Refined) -> bool:
    """Whether so many further modes explain more than noise, or than what is not found yet."""
    measured = Measured.of(scan, arrays_for("cpu"))
    noise = _noise(measured, having)
    if without.error > _NEAR_NOISE * noise:
        return having.error - noise < CLEARLY_BETTER * (without.error - noise)
    unknowns, light = 2 * further * scan.N**2, float(measured.mean.sum())
    by_chance = PHOTONS * measured.per_photon * unknowns / (light * len(measured.sound))
    return having.error < min(_BETTER * without.error, without.error - _OF_NOISE * by_chance)


def _part(raw: RawData, pixels: int) -> RawData:
    """Of the largest scan, as many patterns as hold so many pixels, on a canvas of their own."""
    numbers, sizes = np.unique(raw.scan_index, return_counts=True)
    scan = raw if len(numbers) == 1 else raw.select(raw.scan_index == numbers[sizes.argmax()])
    if scan.n_patterns * scan.N**2 > pixels:
        scan = scan.select(where_patterns_differ(scan, pixels))
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
