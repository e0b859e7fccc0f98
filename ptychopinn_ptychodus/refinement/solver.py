"""The refinement of object, probe and positions, from a start to a result: its stages in their order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.probe import orthogonal_modes
from ..data.raw import RawData
from .arrays import Array, Arrays, arrays_on
from .config import RefinementConfig
from .ending import Ending
from .few_counts import with_metric_chosen
from .iterate import Iterate, Light, Variation, chequerboard
from .measured import Measured
from .position_search import WORTH_IT, PositionSearch, tell_of_search
from .position_terms import better_beginning, moved_by
from .pupil import patterns_to_try
from .report import EpochReports, Refined, RefinementReport, WorkDone
from .run import POSITIONS_WAIT, Run
from .stages import Stages
from .start import Window, check_object, checked_probe
from .trials import CLEARLY_BETTER, Watch
from .varying_probe import turned_alike

logger = logging.getLogger(__name__)

_TRIED = 40  # epochs of trials before the first one, as it mostly is
_LIGHT = 0.2  # of the time of an epoch takes one of a trial: larger pixels, and no free probe
_SHORT = 8
"""Epochs of a refinement that tells whether a free probe makes up for what moved positions explain. After
fewer, a probe that a network had spoilt was still on its way."""
_FORESEEN = 3.0  # error, over what photons leave, late in the epochs, from which on a search is to come
_SEARCHED = 80.0  # epochs that a search of positions takes as long as, roughly


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
    stages: Stages = Stages.ALL,
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
        Called after every batch with the part of the work that is done, 0 to 1, which only grows. What is
        tried before the first epoch, and a search after the last one, are part of it; an epoch given up
        half-way is done.
    should_stop
        Asked before every batch; when it answers True, the estimate of the last good epoch is returned.
    device
        As :func:`.arrays.arrays_for` takes it, or its result.
    stages
        What to do beside the epochs. What a search of positions finds is refined like another scan, from the
        probe that the epochs began with; its epochs are counted on, and it is kept if it explains the
        patterns clearly better.
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
    modes = checked_probe(probe, raw.N, config.probe_modes)
    check_object(np.asarray(object_), raw)
    start = np.asarray(object_, dtype=np.complex64)
    watched = _Watched(EpochReports(on_epoch), WorkDone(on_progress), should_stop, quiet)
    with arrays_on(device) as arrays:
        found = _Refinement(Measured.of(raw, arrays), start, modes, config, stages, watched).result()
    if not found.stopped:
        watched.work.end()
    return found


@dataclass(frozen=True)
class _Watched:
    """Who is told of a refinement, and who may stop it."""

    reports: EpochReports
    work: WorkDone
    should_stop: Callable[[], bool] | None
    quiet: bool

    def trials(self, an_epoch: float) -> Watch:
        """A watch of trials, of which an epoch has so many patterns."""
        return Watch(self.should_stop or (lambda: False), lambda count: self.work.advance(count / an_epoch))


@dataclass(frozen=True)
class _Epochs:
    """A run whose epochs are over, the window that it was made in, and what its epochs began with.

    ``began_with`` is the probe, and the positions.
    """

    run: Run
    window: Window
    began_with: tuple[Array, NDArray[np.float64]]


class _Refinement:
    """One refinement; the start as :func:`refine` takes it, checked."""

    def __init__(
        self,
        measured: Measured,
        start: NDArray[np.complex64],
        modes: NDArray[np.complex64],
        config: RefinementConfig,
        stages: Stages,
        watched: _Watched,
    ) -> None:
        self._measured, self._start, self._modes, self._watched = measured, start, modes, watched
        self._arrays = measured.arrays
        iterate, _ = self._begun(measured, config, 0.0)
        self._config = config = with_metric_chosen(config, measured, iterate)
        if not (config.probe and config.epochs):
            stages &= ~Stages.PUPIL
        if not (config.positions and config.epochs > POSITIONS_WAIT):
            stages &= ~Stages.TERMS
        if not stages & Stages.TERMS:
            stages &= ~Stages.SEARCH
        self._stages = stages
        count = measured.raw.n_patterns
        self._tried = patterns_to_try(measured.raw)
        has_trials = bool(stages & (Stages.PUPIL | Stages.TERMS))
        self._work_of_trials = _TRIED * _LIGHT * self._tried / count if has_trials else 0.0
        self._search_is_known = self._is_conjugated = self._is_put_right = False
        self._reserve_run()

    def result(self) -> Refined:
        """All stages."""
        watched = self._watched
        epochs = self._refined(self._measured)
        first = epochs.run
        if self._stages & Stages.SEARCH and not first.stopped and first.is_far_from_noise(WORTH_IT):
            moved = self._searched_from(epochs)
            if moved is not None:
                scan = replace(self._measured, raw=moved_by(self._measured.raw, moved))
                again = self._handed_over(self._refined(scan))
                if again.error < CLEARLY_BETTER * first.history[-1]:
                    searched = again.positions - _positions(self._measured.raw)
                    if not watched.quiet:
                        tell_of_search(searched)
                    return replace(
                        again,
                        start_error=first.start_error,
                        conjugated=again.conjugated or first.conjugated,
                        searched=float(np.sqrt((searched**2).sum(1).mean())),
                    )
                first.stopped = again.stopped
        return self._handed_over(epochs)

    def _reserve_run(self) -> None:
        """Trials and epochs are to come."""
        self._watched.work.reserve(self._work_of_trials + max(self._config.epochs, 1))

    def _begun(self, measured: Measured, config: RefinementConfig, further: float) -> tuple[Iterate, Window]:
        """The start, in a window in which positions may go so much further than they may by themselves."""
        raw, put = measured.raw, self._arrays.put
        window = Window(self._start.shape, raw, config.position_range + further if config.positions else 0.0)
        iterate = Iterate(
            canvas=put(window.cut(self._start)),
            probe=put(self._modes * chequerboard(raw.N)),
            positions=window.inside(_positions(raw)),
        )
        return iterate, window

    def _run(self, measured: Measured, further: float = 0.0) -> tuple[Run, Window]:
        iterate, window = self._begun(measured, self._config, further)
        may_vary = bool(self._stages & Stages.VARIATION)
        run = Run(measured, iterate, self._config, quiet=self._watched.quiet, may_vary=may_vary)
        run.fit_scale()
        return run, window

    def _refined(self, measured: Measured) -> _Epochs:
        """Trials of the probe and the positions, and the epochs."""
        watched, work = self._watched, self._watched.work
        run, window = self._run(measured)
        if self._work_of_trials:
            work.begin_part(self._work_of_trials)
            run, window = self._tried_first(measured, run, window)
        work.begin_part(max(self._config.epochs, 1))
        began_with = (self._arrays.copy(run.iterate.probe), run.iterate.positions.copy())
        run.loop(watched.reports, work, watched.should_stop, lambda: self._foresee_search(run))
        return _Epochs(run, window, began_with)

    def _tried_first(self, measured: Measured, run: Run, window: Window) -> tuple[Run, Window]:
        """What the epochs had better begin with."""
        raw = measured.raw
        if not self._watched.quiet:
            how = "The probe and the positions are tried first, on %d of %d patterns."
            logger.info(how, self._tried, raw.n_patterns)
        short = self._short(None)
        found = better_beginning(
            raw,
            measured.sound,
            self._start,
            run.iterate.probe,
            self._config,
            self._arrays,
            self._watched.trials(raw.n_patterns / _LIGHT),
            per_photon=measured.per_photon,
            pupil=bool(self._stages & Stages.PUPIL),
            terms=bool(self._stages & Stages.TERMS),
            refined_error=lambda scan, wave: short(scan, wave).error,
        )
        if found.moved is not None:
            run, window = self._run(measured, float(np.abs(found.moved).max()))
        self._is_put_right = found.probe is not None
        found = replace(found, conjugated=found.conjugated or self._is_conjugated)
        run.begin_with(found, self._arrays.put(window.cut(np.ones_like(self._start))))
        return run, window

    def _foresee_search(self, run: Run) -> None:
        """Reserve the work of a search, and of the epochs after it, while there are epochs left before it."""
        if self._search_is_known or not (self._stages & Stages.SEARCH and run.is_far_from_noise(_FORESEEN)):
            return
        self._search_is_known = True
        self._watched.work.reserve(_SEARCHED)
        self._reserve_run()

    def _searched_from(self, epochs: _Epochs) -> NDArray[np.float64] | None:
        """Displacements of the recorded positions, if they are far off. There is no other search."""
        measured, watched = self._measured, self._watched
        if not watched.quiet:
            logger.info("The error is far from noise: positions that may be far off are searched for.")
        watched.work.begin_part(_SEARCHED)
        watch = watched.trials(measured.raw.n_patterns)
        search = PositionSearch(measured, self._start, self._config, watch, self._short(watch))
        probe, positions = epochs.began_with
        moved = search.found(probe, positions - epochs.run.start.positions)
        # what was found of the probe is where to go on from; trials of its pupil would find no more
        if self._is_put_right:
            board = chequerboard(measured.raw.N)
            self._modes = np.asarray(self._arrays.get(probe) * board, np.complex64)
        self._is_conjugated = epochs.run.conjugated
        self._stages &= ~(Stages.PUPIL | Stages.SEARCH)
        return moved

    def _handed_over(self, epochs: _Epochs) -> Refined:
        """The object solved for, and the result."""
        run, window, arrays, watched = epochs.run, epochs.window, self._arrays, self._watched
        ending = Ending(run, self._config, watched.work, watched.should_stop, watched.quiet)
        ending.solve_object()
        ending.take_off_ramp()
        # what was made of pixels beyond the object is not handed over, and must not count
        shown = window.put_back(self._start, arrays.get(run.iterate.canvas))
        run.iterate = replace(run.iterate, canvas=arrays.put(window.cut(shown)))
        final = ending.finish()
        if not watched.quiet:
            ending.tell(final)
        modes, variation = _probe_and_variation(final, arrays, self._config)
        moved = final.positions - run.start.positions
        return Refined(
            object=window.put_back(self._start, arrays.get(final.canvas)),
            probe=modes,
            positions=_positions(run.measured.raw) + moved,  # to the bit where nothing moved
            history=watched.reports.history,
            start_error=run.start_error,
            error=ending.error,
            weights=run.weights,
            light=Light(run.beam.intensities, run.background.level),
            variation=variation,
            stopped=run.stopped,
            metric=self._config.error_metric,
            conjugated=run.conjugated,
            denoised=ending.denoised and not ending.kept_start,
            kept_start=ending.kept_start,
        )

    def _short(self, watch: Watch | None) -> Callable[[RawData, Array], Refined]:
        """A function of a scan and a probe: what a few epochs arrive at from a flat object."""

        def refined(scan: RawData, wave: Array) -> Refined:
            told = 0

            def on_progress(fraction: float) -> None:
                nonlocal told
                done = round(fraction * _SHORT * scan.n_patterns)
                if watch is not None:
                    watch.on_patterns(done - told)
                told = done

            return refine(
                scan,
                np.ones_like(self._start),
                np.asarray(self._arrays.get(wave) * chequerboard(scan.N), np.complex64),
                replace(self._config, epochs=_SHORT, metric=self._config.error_metric, prior="off"),
                on_progress=on_progress,
                should_stop=self._watched.should_stop,
                device=self._arrays,
                quiet=True,
                stages=Stages.NONE,
            )

        return refined


def error_of_start(
    raw: RawData,
    object_: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    config: RefinementConfig,
    *,
    device: str | Arrays,
) -> float:
    """The error of a start by the metric of ``config``, its probe in scale; as :func:`refine` otherwise."""
    return refine(raw, object_, probe, replace(config, epochs=0), device=device, quiet=True).error


def _positions(raw: RawData) -> NDArray[np.float64]:
    """(M, 2) [x, y]."""
    return np.stack((raw.xcoords, raw.ycoords), -1)


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
