"""One refinement under way: accelerated, preconditioned gradient steps on batches of a scan.

One update is a Nesterov step (Sutskever et al., Proc. ICML 2013, eq. 3-4, in terms of the point looked ahead
to) along a gradient divided by the illumination that made it, as PIE-type algorithms do. The divisor is
``max(Σ_batch |P|², Σ_all |P|² / batches) + floor``: with the first alone, pixels that a batch hardly lights
would take steps as long as the others; with the second, those that several of its patterns light would
overshoot. The floor is rPIE's (Maiden, Johnson & Li, Optica 4, 736, 2017). Probe modes are divided by
``max Σ_batch |O|²``, positions by the power of the object's derivative under the probe (Odstrčil, Menzel &
Guizar-Sicairos, Opt. Express 26, 3108, 2018). Steps shrink over the second half of the epochs: what is
left by then is the noise of the batches.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..data.grouping import neighbourhood_order
from ..data.overlapping import shared_light
from .arrays import LEAST, Array
from .background import Background, most_background
from .batches import spread_batches
from .beam import Beam
from .config import SMALLEST_BATCH, RefinementConfig
from .few_counts import most_batches
from .gradients import FarPixels, Gradients
from .iterate import Iterate, Light, power
from .measured import Measured
from .misfits import Misfits
from .model import ScanModel
from .noise import left_by_photons, noise_of_root
from .object_steps import ObjectSteps, nesterov
from .position_steps import PositionSteps
from .position_terms import Beginning
from .probe_prior import ProbePrior
from .report import EpochReports, WorkDone
from .schedule import STEADY, Schedule
from .start import StartError
from .varying_probe import VaryingProbe

logger = logging.getLogger(__name__)

_UPDATES_PER_EPOCH = 24
_WARM_UP = 1.0  # epochs in which the object's steps grow, and the probe waits for the object
POSITIONS_WAIT = 2.0  # epochs
_LIGHT_WAITS = 2  # epochs, for an object that explains counts by its absorption
_VARIATION_ASKED = 4
"""Epochs between two questions whether the probe varies; the object is found by the first."""
_LIGHT_PASSES = 3  # over the scan, for a background that starts late
_WORSE = 1.25  # an epoch's error over the best one's that calls for shorter steps
_LOST = 4.0  # ... and one at which the rest of the epoch is not worth the time
_NEAR_NOISE = 1.08
"""Error, over what photons leave, up to which the likelihood tells more: a worse fit has another cause."""
_FALLS = 0.03
"""Of the error in an epoch: more, and what is still to be found shows, however near the noise is."""
_FALLS_MUCH = 0.15  # ... and more, that a strong object is only being found, under any probe
SOLVING = 10.0  # epochs that take as long as solving for the object after them, roughly
_LATE = 0.75  # of the epochs
_START_MARGIN = 2.0  # accelerated steps may lead through worse at first


class Run:
    """The epochs of one refinement. What comes after them is in :mod:`.ending`.

    Parameters
    ----------
    measured
        The scan.
    iterate
        The start, which is changed in place.
    config
        What to refine, and how.
    quiet
        Write nothing in the log.
    may_vary
        Let the probe vary over the scan where the patterns call for it.

    Attributes
    ----------
    iterate, weights
        The estimate, and what each pattern counts for.
    start, start_error
        The start with its probe in scale, and its error.
    model, object_steps, beam, background, varying, misfits
        What the estimate is compared by, and what else is learnt.
    left, noise
        Mean error of a pattern in the last good epoch, and what photons leave of it.
    history
        Error of each epoch.
    improved, stopped, conjugated
        Whether an epoch was accepted, whether it was asked to stop, and whether the probe came of the
        conjugate of the start's.
    """

    def __init__(
        self,
        measured: Measured,
        iterate: Iterate,
        config: RefinementConfig,
        *,
        quiet: bool,
        may_vary: bool,
    ) -> None:
        self._log = logging.DEBUG if quiet else logging.INFO
        self.measured, self._sound, self._mean = measured, measured.sound, measured.mean
        self._arrays = arrays = measured.arrays
        self.model = model = ScanModel(measured.raw, arrays, config.error_metric)
        self._config = config
        self._schedule = Schedule(config.epochs)
        self._rng = np.random.default_rng(config.seed)
        self._order = neighbourhood_order(iterate.positions)
        self._scan = np.arange(len(self._order))
        count = len(self._order)
        wanted = _UPDATES_PER_EPOCH if config.batch_size is None else round(count / config.batch_size)
        self._batches = max(min(wanted, count // SMALLEST_BATCH), 1)
        self.iterate = iterate
        self.history: list[float] = []
        self.improved = self.stopped = self.conjugated = False
        self.start_error = self.left = math.nan
        self.weights = np.ones(count)
        mean, per_photon = measured.mean, measured.per_photon
        self.noise = left_by_photons(mean, per_photon, config.error_metric)
        if config.batch_size is None and config.error_metric == "poisson":
            photons_each = float(mean.sum()) / per_photon
            self._batches = min(self._batches, most_batches(count * photons_each, iterate.canvas))
        self.start = iterate.copy(arrays)
        self.object_steps = ObjectSteps(model, arrays, config, self.start, self._batches, mean)
        self._position_steps = PositionSteps(iterate.positions.copy(), config, mean)
        self._may_vary = may_vary and config.probe
        self.varying = VaryingProbe(model, arrays, config, self._order, self.noise)
        self._first = 0

    def fit_scale(self) -> None:
        """Scale the probe to where the metric of the sound patterns is least.

        That is the start to compare with.
        """
        iterate = self.iterate
        found = self.model.compare(iterate, self._scan)
        sums = (found.counts, found.cross, found.modelled)
        counts, cross, modelled = (float(values[self._sound].sum()) for values in sums)
        if not counts > 0:
            raise ValueError(
                "The patterns have no counts on good pixels: there is nothing to refine by. Check the "
                "patterns and the bad pixels."
            )
        if not (math.isfinite(modelled) and modelled > 0 and cross > 0):
            raise StartError(
                "The start puts no light where the patterns have it: object times probe is zero (or not "
                "finite) in the far field. Start from another object or probe."
            )
        # where counts are few, amplitudes that fit best have far less power than the counts have
        poisson = self._config.error_metric == "poisson"
        iterate.probe *= math.sqrt(counts / modelled) if poisson else cross / modelled
        self._counts = found.counts
        self.misfits = Misfits(iterate.positions, found.counts)
        self.beam = Beam(iterate.positions, found.counts, self._shared_light)
        light = float(self._mean[~self.measured.raw.bad_pixels].mean())
        most = most_background(self.model, iterate.probe, self._sound, self.measured.per_photon)
        self.background = Background(most, light)
        self._power = float(power(iterate.probe).sum())
        self.start.probe = self._arrays.copy(iterate.probe)
        self.start_error = self.weighted(self.model.compare(iterate, self._scan).errors)

    def begin_with(self, found: Beginning, flat: Array) -> None:
        """Go on from a better probe and other positions; what the result is compared with stays the start.

        ``flat`` is a canvas without an object: one that was made with a probe's conjugate leads nowhere.
        """
        if found.conjugated:
            self.iterate.canvas = flat
            self.conjugated = True
        if found.probe is not None:
            self.iterate.probe = found.probe
        if found.moved is not None:
            self.iterate.positions += found.moved
            self._position_steps = PositionSteps(self.iterate.positions.copy(), self._config, self._mean)
            logger.log(
                self._log,
                "What the errors of the positions have in common, such as a turn or a drift, was found: they "
                "are moved by %.3g pixels, root mean square, and by %.3g at most.",
                math.sqrt(float((found.moved**2).sum(1).mean())),
                float(np.sqrt((found.moved**2).sum(1)).max()),
            )

    def loop(
        self,
        reports: EpochReports,
        work: WorkDone,
        should_stop: Callable[[], bool] | None,
        when_late: Callable[[], None],
    ) -> None:
        """All epochs, or as many as there is time for; the unit of the work is an epoch.

        ``when_late`` is called after each of the last quarter of them, as far as is known by then.
        """
        config = self._config
        self._scale = 1.0
        self._probe_prior = ProbePrior(self._mean, self.iterate.probe, self._arrays)
        self._object_power = 0.0  # of the whole scan, once the probe is refined
        self._work = work
        self._accepted, best_error = self.iterate.copy(self._arrays), self.start_error * _START_MARGIN
        self._best = self._accepted
        self._rest()
        # which is that of the start, but where the conjugate of the probe was taken; canvases are large
        canvas = self._arrays.copy(self.iterate.canvas) if self.conjugated else self.start.canvas
        self._began_with = (canvas, self.iterate.positions.copy())
        epoch = -1
        while (epoch := epoch + 1) < self.last_epoch:  # which a probe found to vary puts off
            begin, since = time.monotonic(), epoch - self._first
            self.object_steps.prepare(self.iterate)
            error, seen, lost = 0.0, 0, False
            errors, modelled = np.zeros((2, len(self._scan)))
            far = FarPixels()
            total = float(self.weights @ self._counts)
            for number, indices in enumerate(spread_batches(self._order, self._batches, self._rng)):
                if should_stop is not None and should_stop():
                    self.stopped = True
                    self.iterate = self._accepted
                    self._let_go()
                    return
                found = self._update(indices, since + number / self._batches)
                assert found.modelled is not None
                assert found.far is not None
                errors[indices], modelled[indices] = found.errors, found.modelled
                far += found.far
                del found  # with gradients as large as the canvas, before those of the next batch are there
                error += float(self.weights[indices] @ errors[indices]) / total
                seen += len(indices)
                # by the sum, which only grows: one bright pattern may make a batch worse than any other
                lost = not error <= _LOST * best_error
                self._work.reach(epoch + (1.0 if lost else (number + 1) / self._batches))
                if lost:
                    break
            self._position_steps.keep_mean(self.iterate.positions)
            if error <= _WORSE * best_error:
                self._accepted, self.improved = self.iterate.copy(self._arrays), True
                if error <= best_error:
                    self._best, best_error = self._accepted, error
                self.left = left = error * total / float(self.weights.sum())
                self.object_steps.learn(self.iterate, left)
                self._position_steps.learn(self.iterate.positions, left)
                if config.error_metric == "poisson" and self._object_power > 0:
                    self._probe_prior.learn(self.iterate.probe, self._object_power, left)
                self.weights = self.misfits.weights(errors)
                if epoch + 1 >= _LIGHT_WAITS:
                    self.beam.learn(modelled, noise_of_root(self._mean, left), left - self.noise)
                    self.background.learn(far)
                    self.model.light = Light(self.beam.intensities, self.background.level)
                is_late = config.metric != "amplitude" and self._schedule.is_late(since + 1)
                at_noise = is_late and left <= _NEAR_NOISE * self.noise
                if at_noise and self.history and error > (1.0 - _FALLS) * self.history[-1]:
                    self._schedule.wind_down(since + 1)
                if at_noise and not self.model.by_likelihood:
                    best_error = self._follow_likelihood()
                    self._work.add(SOLVING)
            else:  # not "if error >": NaN compares with nothing
                logger.log(
                    self._log,
                    "Refinement epoch %d raised the error from %.3g to %.3g: going on from the best estimate "
                    "with half the step.",
                    len(reports.history) + 1,
                    best_error,
                    error,
                )
                # an epoch's error is the mean on its way: the last may have been good, and have ended badly
                self._accepted, self.iterate = self._best, self._best.copy(self._arrays)
                self._scale *= 0.5
                self._rest()
            before = self.history[-1] if self.history else self.start_error
            self._vary(epoch, error > (1.0 - _FALLS_MUCH) * before)
            self.history.append(error if math.isfinite(error) else before)
            seconds = time.monotonic() - begin
            reports.tell(self.history[-1], self.last_epoch - epoch - 1, seconds, seen)
            if epoch + 1 >= _LATE * self.last_epoch:
                when_late()
        self._let_go()

    def _let_go(self) -> None:
        """The epochs are over: what they may have come back to is not needed any more."""
        del self._accepted, self._best, self._began_with
        self.object_steps.let_go()

    def _shared_light(self) -> float:
        return shared_light(self._arrays.get(self.start.probe), *self.start.positions.T)

    @property
    def last_epoch(self) -> int:
        """How many epochs there are, by what is known now."""
        return self._first + self._schedule.epochs

    @property
    def most_epochs(self) -> int:
        """How many there may have been, which is what is known of the work."""
        return self._first + self._config.epochs

    def _vary(self, epoch: int, is_settled: bool) -> None:
        """After an epoch: let the probe vary if the patterns call for it, and begin again with such a probe.

        Object and positions have taken on what the probe did until then. As long as the error falls, a probe
        that is the same for all patterns may be all that is needed.
        """
        self.varying.keep_mean(self.iterate)
        asks = is_settled and (epoch + 1) % _VARIATION_ASKED == 0 and self.iterate.variation is None
        if not (self._may_vary and asks and self.improved and not self.model.by_likelihood):
            return
        if self.varying.begin(self.iterate, self.weights, self.left):
            self._first, self._schedule = epoch + 1, Schedule(self._config.epochs)
            self._work.add(float(self._first))
            # what has been found so far is still there for steps that come to nothing
            self._accepted = self._best = self.iterate.copy(self._arrays)
            canvas, positions = self._began_with
            self.iterate.canvas, self.iterate.positions = self._arrays.copy(canvas), positions.copy()
            self._position_steps = PositionSteps(positions.copy(), self._config, self._mean)
            self._rest()

    def _follow_likelihood(self) -> float:
        """Steps go by the likelihood from now on; the error of the estimate, whose probe is scaled for it."""
        self.model.by_likelihood = True
        if self.background.level == 0:
            self._find_small_background()
        found = self.model.compare(self.iterate, self._scan)
        # amplitudes that fit best have less power than the counts, which the object would take on now
        factor = math.sqrt(float(found.counts[self._sound].sum() / found.modelled[self._sound].sum()))
        self.iterate.scale(factor)
        self._probe_velocity *= factor
        self._power *= factor**2
        self._accepted = self._best = self.iterate.copy(self._arrays)
        logger.log(
            self._log,
            "What is left is near the noise of photons: from here on, refinement follows the likelihood of "
            "the counts. The error, which is that of amplitudes, may be a little higher for it.",
        )
        return self.weighted(self.model.compare(self.iterate, self._scan).errors)

    def _find_small_background(self) -> None:
        """The likelihood, other than amplitudes, is bettered by a background of any level."""
        self.background.begin(at_any_level=True)
        for _ in range(_LIGHT_PASSES):
            self.model.light = Light(self.beam.intensities, self.background.level)
            found = self.model.gradients(
                self.iterate, self._scan, probe=False, positions=False, light=True, weights=self.weights
            )
            assert found.far is not None
            self.background.learn(found.far)
        self.model.light = Light(self.beam.intensities, self.background.level)

    def is_far_from_noise(self, times: float) -> bool:
        """Whether the last good epoch left of the patterns more than so many times what photons leave."""
        return self.left > times * self.noise

    @property
    def order(self) -> NDArray[np.int64]:
        """(M,) the patterns as a path that leads from neighbour to neighbour."""
        return self._order

    def weighted(self, errors: NDArray[np.float64]) -> float:
        """The error of all patterns, (M,), as the history has it."""
        return float(self.weights @ errors) / float(self.weights @ self._counts)

    def is_near_noise(self, errors: NDArray[np.float64], times: float = _NEAR_NOISE) -> bool:
        """Whether errors of all patterns, (M,), are no more than so many times what photons leave."""
        return float(self.weights @ errors) / float(self.weights.sum()) <= times * self.noise

    # ------------------------------------------------------------------ steps

    def _rest(self) -> None:
        self.object_steps.rest()
        self.varying.rest()
        self._probe_velocity = self.iterate.probe * 0

    def _update(self, indices: NDArray[np.int64], done: float) -> Gradients:
        """Take one step; ``done`` epochs are done. Returns how the batch's patterns agreed before it."""
        config, iterate = self._config, self.iterate
        probe = config.probe and done >= _WARM_UP
        # shapes of a probe that varies explain small displacements, too, and are better at it at first
        wait = POSITIONS_WAIT if iterate.variation is None else max(POSITIONS_WAIT, STEADY * config.epochs)
        positions = config.positions and done >= wait
        gradients = self.model.gradients(
            iterate,
            indices,
            probe=probe,
            positions=positions,
            light=True,
            illumination=True,
            weights=self.weights,
        )
        rate = self._scale * self._schedule.step(done)
        warm = min(1.0, (done + 1.0 / self._batches) / _WARM_UP)
        self.object_steps.step(iterate, gradients, rate * warm)
        if probe:
            self._step_probe(gradients, rate)
            self.varying.step(iterate, gradients, indices, rate)
        if positions:
            self._position_steps.step(iterate.positions, gradients, indices, self._scale)
        return gradients

    def _step_probe(self, gradients: Gradients, rate: float) -> None:
        iterate = self.iterate
        assert gradients.probe is not None
        assert gradients.object_power is not None
        length = rate * self._config.probe_step
        of_object = max(float(gradients.object_power.max()), LEAST)
        self._object_power = of_object * self._batches
        towards = gradients.probe * (-length / of_object)
        towards = self._probe_prior.held(iterate.probe + towards, length) - iterate.probe
        nesterov(iterate.probe, self._probe_velocity, towards, self._config.momentum)
        # object and probe share one scale, which would wander otherwise
        now = float(power(iterate.probe).sum())
        factor = math.sqrt(self._power / now) if now > 0 else math.nan
        iterate.probe *= factor
        self._probe_velocity *= factor
