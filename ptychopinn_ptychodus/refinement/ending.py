"""What comes after the epochs: the object solved for as a whole, the ramp, and the choice of what is kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .ambiguities import without_ramp
from .config import RefinementConfig
from .denoising import Scan, denoise
from .few_counts import NEAR_NOISE, ROUNDS, tell_what_is_seen
from .iterate import Iterate
from .misfits import tell_of_misfits
from .model import OUTLIER_RATIO, ScanModel
from .report import WorkDone
from .run import SOLVING, Run

logger = logging.getLogger(__name__)

_ROUNDS, _MOST_ROUNDS = 2, 8
"""How often the object is solved for by all patterns at once; what it looks like is learnt in between."""
_SETTLED = 0.13
"""Change of an object by a round, over its contrast, up to which there is no further one. Where the counts
tell little of the phase at large scales, its power is learnt in many rounds; each changes it by a fifth."""
_STEPS = 40  # of a round, at most
_EPOCHS_A_ROUND = SOLVING / _ROUNDS  # that take as long as a round, roughly; for how much is done


class Ending:
    """The end of a run, whose estimate is changed in place.

    Parameters
    ----------
    run
        Its epochs are over.
    config
        That of the run.
    work
        Told how much is done.
    should_stop
        Asked before every step.
    quiet
        Write nothing in the log.

    Attributes
    ----------
    error
        That of the estimate, or of the start where this is kept, once it is finished.
    kept_start
        Whether the start is kept.
    denoised
        Whether the object is held by itself without its noise.
    """

    def __init__(
        self,
        run: Run,
        config: RefinementConfig,
        work: WorkDone,
        should_stop: Callable[[], bool] | None,
        quiet: bool,
    ) -> None:
        self._run, self._config, self._work, self._should_stop = run, config, work, should_stop
        self._quiet = quiet
        self._arrays = run.measured.arrays
        self._scan = np.arange(run.measured.raw.n_patterns)
        self._finest: float | None = None  # see ObjectSteps.solve_anew, which few counts come to
        self.error, self.kept_start, self.denoised = math.nan, False, False

    def solve_object(self) -> None:
        """The object alone, from all patterns at once, where photons are all that is left."""
        run = self._run
        if run.stopped or not (self._changed_metric or self._is_all_noise()):
            return
        if not self._quiet:
            logger.info("The object is solved for by all patterns at once.")
        model = self._likelihood(math.inf)
        self.take_off_ramp()  # which the object's spectrum would be taken for
        run.object_steps.prepare(run.iterate)
        if self._changed_metric:
            self._solve_on(model)
        else:
            self._solve_anew(model)
        if self._config.prior != "off" and not run.stopped:
            self._denoise(model)

    def _solve_on(self, model: ScanModel) -> None:
        """From the object of the epochs."""
        run, steps, work = self._run, self._run.object_steps, self._work
        per_photon, epochs = run.measured.per_photon, run.most_epochs
        for number in range(_MOST_ROUNDS):
            if number >= _ROUNDS:
                work.add(_EPOCHS_A_ROUND)
            before = self._arrays.copy(run.iterate.canvas)
            steps.learn(run.iterate, run.left)

            def on_progress(part: float, done: float = epochs + number * _EPOCHS_A_ROUND) -> None:
                work.reach(done + part * _EPOCHS_A_ROUND)

            run.stopped = steps.solve(
                model, run.iterate, run.weights, per_photon, _STEPS, on_progress, self._should_stop
            )
            if run.stopped:
                return
            on_progress(1.0)  # the steps may have come to an end before they were all taken
            changed = steps.change(before, run.iterate.canvas)
            if number + 1 >= _ROUNDS and not changed > _SETTLED:
                return

    def _solve_anew(self, model: ScanModel) -> None:
        """From nothing."""
        run, more = self._run, ROUNDS * _EPOCHS_A_ROUND
        self._work.add(more)
        run.stopped, self._finest = run.object_steps.solve_anew(
            model,
            run.iterate,
            run.weights,
            run.measured.per_photon,
            _STEPS,
            ROUNDS,
            lambda part: self._work.reach(run.most_epochs + part * more),
            self._should_stop,
        )

    def _denoise(self, model: ScanModel) -> None:
        """Hold the object by itself without its noise, where the dose calls for it."""
        run, begun, more = self._run, self._work.done, 2 * _EPOCHS_A_ROUND
        self._work.add(more)
        scan = Scan(model, self._arrays, run.weights, run.measured.per_photon, run.order)
        run.stopped, self.denoised = denoise(
            scan,
            run.object_steps,
            run.iterate,
            _STEPS,
            lambda part: self._work.reach(begun + part * more),
            self._should_stop,
        )
        if self.denoised and not self._quiet:
            logger.info(
                "The object is held by itself without its noise (total variation): patterns that took no "
                "part are foretold better so. Set the prior to off for an object without it."
            )

    def _is_all_noise(self) -> bool:
        """Whether the likelihood was followed from the beginning, and has nothing but photons' noise left."""
        run = self._run
        if self._config.error_metric != "poisson" or not self._config.epochs:
            return False
        return run.is_near_noise(run.model.compare(run.iterate, self._scan).errors, NEAR_NOISE)

    @property
    def _changed_metric(self) -> bool:
        """Whether ``"auto"`` came to follow the likelihood."""
        return self._config.metric == "auto" and self._run.model.by_likelihood

    def take_off_ramp(self) -> None:
        """Leave the object flat on the whole, at the cost of a probe that may be changed."""
        run = self._run
        if not (run.improved and self._config.probe):
            return
        iterate, get, put = run.iterate, self._arrays.get, self._arrays.put
        light = get(run.model.illumination(iterate, self._scan))
        touched = get(run.model.touched(iterate, self._scan))
        probe, varied = get(iterate.probe), iterate.variation
        waves = probe[None] if varied is None else np.concatenate((probe[None], get(varied.shapes)))
        canvas, waves = without_ramp(get(iterate.canvas), waves, light, touched)
        if varied is not None:
            varied = replace(varied, shapes=put(waves[1:]))
        run.iterate = replace(iterate, canvas=put(canvas), probe=put(waves[0]), variation=varied)

    def finish(self) -> Iterate:
        """The last estimate, or the start if that was better after all."""
        run = self._run
        found = run.model.compare(run.iterate, self._scan)
        if self._config.epochs:
            run.weights = run.misfits.weights(found.errors)
        self.error = run.weighted(found.errors)
        if not (run.weights == 1).all():
            run.start_error = run.weighted(run.model.compare(run.start, self._scan).errors)
        self.kept_start = not (run.improved or self.error < run.start_error)
        if self._is_worse_than_start(found.errors):
            if self._config.epochs and not run.stopped and not self._quiet:
                logger.warning(
                    "Refinement did not improve on the start (error %.3g, then %.3g): the start is kept.%s",
                    run.start_error,
                    self.error,
                    ""
                    if self._config.metric == "poisson"
                    else " Where a pattern has some hundred photons or fewer, refine with the metric "
                    '"poisson".',
                )
            run.iterate, self.error, self.kept_start = run.start, run.start_error, True
            run.conjugated = False
        return run.iterate

    def tell(self, final: Iterate) -> None:
        """Log what was found beside object, probe and positions."""
        run, measured = self._run, self._run.measured
        tell_of_misfits(run.weights)
        run.beam.tell()
        run.background.tell()
        run.varying.tell(final)
        if self._finest is not None:
            tell_what_is_seen(measured.mean / measured.per_photon, self._finest)

    def _is_worse_than_start(self, errors: NDArray[np.float64]) -> bool:
        """By what the last steps went by: the likelihood's best has not the least error of amplitudes.

        Where nothing but the noise of photons is left, a start that leaves less has fitted the noise, as a
        network's object of few patterns at a time does.
        """
        run = self._run
        if self._config.epochs and run.is_near_noise(errors):
            return False
        if not (self._changed_metric and math.isfinite(self.error)):
            return not self.error <= run.start_error
        likelihood = self._likelihood()
        found, start = (likelihood.compare(one, self._scan) for one in (run.iterate, run.start))
        return not float(run.weights @ found.errors) <= float(run.weights @ start.errors)

    def _likelihood(self, outlier_ratio: float = OUTLIER_RATIO) -> ScanModel:
        """The scan in the same light, measured by the likelihood."""
        model = ScanModel(self._run.measured.raw, self._arrays, "poisson", outlier_ratio)
        model.light = self._run.model.light
        return model
