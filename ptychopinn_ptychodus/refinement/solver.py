"""The refinement of object, probe and positions, from a start to a result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data.examination.frames import sound_frames
from ..data.probe import orthogonal_modes
from ..data.raw import RawData
from .arrays import Array, Arrays, arrays_for
from .config import RefinementConfig
from .few_counts import tell_what_is_seen, with_metric_chosen
from .misfits import tell_of_misfits
from .model import Iterate, Light, Variation, chequerboard
from .noise import photon_unit
from .position_search import WORTH_IT, PositionSearch, tell_of_search
from .position_terms import better_beginning, moved_by
from .pupil import patterns_to_try
from .report import Refined, RefinementReport, WorkDone
from .run import POSITIONS_WAIT, Run
from .start import Window, check_object, checked_probe
from .trials import CLEARLY_BETTER, Watch
from .varying_probe import turned_alike

logger = logging.getLogger(__name__)

_TRIED = 40  # epochs of trials before the first one, as it mostly is
_LIGHT = 0.2  # of the time of an epoch takes one of a trial: larger pixels, and no free probe
_SHORT = 8
"""Epochs of a refinement that tells whether a free probe makes up for what moved positions explain. After
fewer, a probe that a network had spoilt was still on its way."""


def refine(
    raw: RawData,
    object_: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    config: RefinementConfig,
    *,
    on_epoch: Callable[[RefinementReport], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str | Arrays = "auto",
    quiet: bool = False,
    pupil: bool = True,
    terms: bool = True,
    varying: bool = True,
    search: bool = True,
) -> Refined:
    """Fit object, probe and positions to a scan, from a start.

    Parameters
    ----------
    raw
        The scan; its own probe and object are not used.
    object_
        (H, W) complex start, such as a network's stitched object, or ones.
    probe
        (N, N) or (modes, N, N) complex start. It is scaled to the data first: for ``metric="amplitude"`` by
        least squares of the amplitudes, for ``"poisson"`` to the counts' sum.
    config
        What to refine, and how.
    on_epoch
        Called after every epoch with a report of it.
    on_progress
        Called after every batch with the part of the work that is done, 0 to 1. What is tried before the
        first epoch is part of it; an epoch given up half-way is done.
    should_stop
        Asked before every batch; when it answers True, the estimate of the last good epoch is returned.
    device
        As :func:`.arrays.arrays_for` takes it, or its result.
    pupil
        Put the probe right in its pupil first, if it is refined, see :mod:`.pupil`.
    terms
        Put right first what the errors of all positions have in common, if they are refined, see
        :mod:`.position_terms`.
    varying
        Let the probe vary over the scan where the patterns call for it, if it is refined, see
        :mod:`.varying_probe`.
    search
        Look far around for each position, if they are refined, ``terms`` among it, and what the epochs leave
        of the patterns is far from noise, see :mod:`.position_search`. What is found is refined like another
        scan, epoch 1 first, and kept if it explains the patterns clearly better.
    quiet
        Write nothing in the log: for trials, whose outcome is somebody else's to tell.

    Returns
    -------
    Refined
        Never worse than the start by the metric chosen, or by the likelihood where ``"auto"`` came to follow
        it, and finite.

    Raises
    ------
    StartError
        If the start is not finite, or puts no light on the detector.
    ValueError
        If the start does not fit the scan, or if the scan has no counts.
    RuntimeError
        If the device is not there.
    """
    positions = np.stack((raw.xcoords, raw.ycoords), -1)
    modes = checked_probe(probe, raw.N, config.probe_modes)
    check_object(np.asarray(object_), raw)
    start = np.asarray(object_, dtype=np.complex64)
    arrays = arrays_for(device) if isinstance(device, str) else device
    # frames without beam, and flashes, would spoil whatever is a mean of patterns
    sound = np.flatnonzero(sound_frames(raw))
    per_photon = photon_unit(raw.diff3d, sound, raw.bad_pixels)

    def begun(further: float) -> tuple[Iterate, Window]:
        reach = config.position_range + further if config.positions else 0.0
        window = Window(start.shape, raw, reach)
        iterate = Iterate(
            canvas=arrays.put(window.cut(start)),
            probe=arrays.put(modes * chequerboard(raw.N)),
            positions=window.inside(positions),
        )
        return iterate, window

    def started(iterate: Iterate) -> Run:
        run = Run(raw, arrays, iterate, config, sound, per_photon, quiet, varying)
        run.fit_scale()
        return run

    iterate, window = begun(0.0)
    config = with_metric_chosen(config, raw, sound, iterate, arrays, per_photon)
    run = started(iterate)
    short = _short_refinement(start, config, arrays, should_stop)
    tries_pupil = pupil and config.probe and config.epochs > 0
    tries_terms = terms and config.positions and config.epochs > POSITIONS_WAIT
    part = patterns_to_try(raw)
    before = _TRIED * _LIGHT * part / raw.n_patterns if tries_pupil or tries_terms else 0.0
    work = WorkDone(before + max(config.epochs, 1), on_progress)
    if tries_pupil or tries_terms:
        if not quiet:
            logger.info(
                "The probe and the positions are tried first, on %d of %d patterns.", part, raw.n_patterns
            )
        found = better_beginning(
            raw,
            sound,
            start,
            run.iterate.probe,
            config,
            arrays,
            Watch(
                should_stop or (lambda: False),
                lambda count: work.advance(_LIGHT * count / raw.n_patterns, before),
            ),
            per_photon=per_photon,
            pupil=tries_pupil,
            terms=tries_terms,
            refined_error=lambda scan, wave: short(scan, wave).error,
        )
        if found.moved is not None:
            iterate, window = begun(float(np.abs(found.moved).max()))
            run = started(iterate)
        run.begin_with(found, arrays.put(window.cut(np.ones_like(start))))
    work.begin_part(before)
    begun_with = run.iterate.copy(arrays)
    run.loop(on_epoch, work, should_stop)
    if search and tries_terms and not run.stopped and run.is_far_from_noise(WORTH_IT):
        if not quiet:
            logger.info("The error is far from noise: positions that may be far off are searched for.")
        looked = PositionSearch(
            raw, sound, start, config, arrays, Watch(should_stop or (lambda: False)), short, per_photon
        )
        moved = looked.found(begun_with.probe, begun_with.positions - run.start.positions)
        if moved is not None:
            again = refine(
                moved_by(raw, moved),
                object_,
                probe,
                config,
                on_epoch=on_epoch,
                should_stop=should_stop,
                device=arrays,
                quiet=quiet,
                pupil=pupil,
                varying=varying,
                search=False,
            )
            if again.error < CLEARLY_BETTER * run.history[-1]:
                if not quiet:
                    tell_of_search(again.positions - positions)
                return replace(again, start_error=run.start_error)
            run.stopped = again.stopped
    run.solve_object(should_stop)
    final = _final(run, window, start, arrays)
    if not quiet:
        tell_of_misfits(run.weights)
        run.beam.tell()
        run.background.tell()
        run.varying.tell(final)
        if run.finest is not None:
            tell_what_is_seen(run.mean_photons, run.finest)
    found_modes, variation = _probe_and_variation(final, arrays, config)
    return Refined(
        object=window.put_back(start, arrays.get(final.canvas)),
        probe=found_modes,
        positions=positions + (final.positions - run.start.positions),  # to the bit where nothing moved
        history=run.history,
        start_error=run.start_error,
        error=run.error,
        weights=run.weights,
        light=Light(run.beam.intensities, run.background.level),
        variation=variation,
        stopped=run.stopped,
        metric=config.error_metric,
        conjugated=run.conjugated,
    )


def _final(run: Run, window: Window, start: NDArray[np.complex64], arrays: Arrays) -> Iterate:
    """What is handed over of a run that has come to its end."""
    run.take_off_ramp()
    # what was made of pixels beyond the object is not handed over, and must not count
    shown = window.put_back(start, arrays.get(run.iterate.canvas))
    run.iterate = replace(run.iterate, canvas=arrays.put(window.cut(shown)))
    return run.finish()


def _probe_and_variation(
    final: Iterate, arrays: Arrays, config: RefinementConfig
) -> tuple[NDArray[np.complex64], Variation | None]:
    """The probe (modes, N, N), its modes orthogonal if it was refined, and its variation, mixed likewise."""
    board = chequerboard(final.probe.shape[-1])
    modes = np.asarray(arrays.get(final.probe) * board, np.complex64)
    orthogonal = orthogonal_modes(modes) if config.probe else modes
    if final.variation is None:
        return orthogonal, None
    shapes = np.asarray(arrays.get(final.variation.shapes) * board, np.complex64)
    return orthogonal, Variation(turned_alike(shapes, modes, orthogonal), final.variation.weights)


def _short_refinement(
    start: NDArray[np.complex64],
    config: RefinementConfig,
    arrays: Arrays,
    should_stop: Callable[[], bool] | None,
) -> Callable[[RawData, Array], Refined]:
    """A function of a scan and a probe: what a few epochs arrive at from a flat object."""

    def refined(scan: RawData, wave: Array) -> Refined:
        return refine(
            scan,
            np.ones_like(start),
            np.asarray(arrays.get(wave) * chequerboard(scan.N), np.complex64),
            replace(config, epochs=_SHORT, metric=config.error_metric),
            should_stop=should_stop,
            device=arrays,
            quiet=True,
            pupil=False,
            terms=False,
            varying=False,
            search=False,
        )

    return refined
