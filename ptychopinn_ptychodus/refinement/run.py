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
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from .ambiguities import without_ramp
from .arrays import LEAST, Arrays
from .background import Background, most_background
from .batches import spread_batches
from .beam import Beam
from .config import SMALLEST_BATCH, RefinementConfig
from .few_counts import NEAR_NOISE, ROUNDS, most_batches
from .misfits import Misfits
from .model import OUTLIER_RATIO, FarPixels, Gradients, Iterate, Light, ScanModel, power
from .noise import left_by_photons, noise_of_root
from .object_steps import ObjectSteps, nesterov
from .position_steps import PositionSteps
from .position_terms import Beginning
from .probe_prior import ProbePrior
from .report import RefinementReport, WorkDone
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
_ROUNDS, _MOST_ROUNDS = 2, 8
"""How often the object is solved for by all patterns at once; what it looks like is learnt in between."""
_SETTLED = 0.13
"""Change of an object by a round, over its contrast, up to which there is no further one. Where the counts
tell little of the phase at large scales, its power is learnt in many rounds; each changes it by a fifth."""
_STEPS = 40  # of a round, at most
_EPOCHS_A_ROUND = 5.0  # that take as long as a round, roughly; for how much is done
_START_MARGIN = 2.0  # accelerated steps may lead through worse at first


class Run:
    """One refinement: the estimate, its momentum, the start, and the last estimate that an epoch accepted."""

    def __init__(
        self,
        raw: RawData,
        arrays: Arrays,
        iterate: Iterate,
        config: RefinementConfig,
        sound: NDArray[np.int64],
        per_photon: float,
        quiet: bool,
        varying: bool = True,
    ) -> None:
        self._log = logging.DEBUG if quiet else logging.INFO
        self._warn = logging.DEBUG if quiet else logging.WARNING
        self._model = model = ScanModel(raw, arrays, config.error_metric)
        self._raw = raw
        self._arrays = arrays
        self._config = config
        self._schedule = Schedule(config.epochs)
        self._sound = sound
        self._rng = np.random.default_rng(config.seed)
        self._order = neighbourhood_order(iterate.positions)
        self._scan = np.arange(len(self._order))
        count = len(self._order)
        wanted = _UPDATES_PER_EPOCH if config.batch_size is None else round(count / config.batch_size)
        self._batches = max(min(wanted, count // SMALLEST_BATCH), 1)
        self.iterate = iterate
        self.history: list[float] = []
        self._improved = False
        self.stopped = False
        self.start_error = self.error = self._left = math.nan
        self.finest: float | None = None  # see ObjectSteps.solve_anew, which few counts come to
        self.weights = np.ones(count)
        self._mean = mean = model.mean_counts(sound)
        self._per_photon = per_photon
        self._noise = left_by_photons(mean, per_photon, config.error_metric)
        if config.batch_size is None and config.error_metric == "poisson":
            photons_each = float(mean.sum()) / self._per_photon
            self._batches = min(self._batches, most_batches(count * photons_each, iterate.canvas))
        self._object_steps = ObjectSteps(model, arrays, config, iterate.copy(arrays), self._batches, mean)
        self._position_steps = PositionSteps(iterate.positions.copy(), config, mean)
        self._may_vary = varying and config.probe
        self.varying = VaryingProbe(model, arrays, config, self._order, self._noise)
        self._first = 0

    def fit_scale(self) -> None:
        """Scale the probe to where the metric of the sound patterns is least.

        That is the start to compare with.
        """
        iterate = self.iterate
        found = self._model.compare(iterate, self._scan)
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
        self._misfits = Misfits(iterate.positions, found.counts)
        self.beam = Beam(iterate.positions, found.counts)
        light = float(self._mean[~self._raw.bad_pixels].mean())
        most = most_background(self._model, iterate.probe, self._sound, self._per_photon)
        self.background = Background(most, light)
        self._power = float(power(iterate.probe).sum())
        self.start = iterate.copy(self._arrays)
        self.start_error = self._weighted(self._model.compare(iterate, self._scan).errors)

    def begin_with(self, found: Beginning) -> None:
        """Go on from a better probe and other positions; what the result is compared with stays the start."""
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
        on_epoch: Callable[[RefinementReport], None] | None,
        work: WorkDone,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        """All epochs, or as many as there is time for; the unit of the work is an epoch."""
        config, begin, patterns = self._config, time.monotonic(), 0
        self._scale = 1.0
        self._probe_prior = ProbePrior(self._mean, self.iterate.probe, self._arrays)
        self._object_power = 0.0  # of the whole scan, once the probe is refined
        self._work = work
        self._accepted, best_error = self.iterate.copy(self._arrays), self.start_error * _START_MARGIN
        self._rest()
        self._beginning = self.iterate.positions.copy()
        for epoch in self._epochs():
            since = epoch - self._first
            self._object_steps.prepare(self.iterate)
            error, seen, lost = 0.0, 0, False
            errors, modelled = np.zeros((2, len(self._scan)))
            far = FarPixels()
            total = float(self.weights @ self._counts)
            for number, indices in enumerate(spread_batches(self._order, self._batches, self._rng)):
                if should_stop is not None and should_stop():
                    self.stopped = True
                    self.iterate = self._accepted
                    return
                found = self._update(indices, since + number / self._batches)
                assert found.modelled is not None
                assert found.far is not None
                errors[indices], modelled[indices] = found.errors, found.modelled
                far += found.far
                error += float(self.weights[indices] @ errors[indices]) / total
                seen += len(indices)
                # by the sum, which only grows: one bright pattern may make a batch worse than any other
                lost = not error <= _LOST * best_error
                self._work.reach(epoch + (1.0 if lost else (number + 1) / self._batches))
                if lost:
                    break
            patterns += seen
            self._position_steps.keep_mean(self.iterate.positions)
            if error <= _WORSE * best_error:
                self._accepted, self._improved = self.iterate.copy(self._arrays), True
                best_error = min(error, best_error)
                self._left = left = error * total / float(self.weights.sum())
                self._object_steps.learn(self.iterate, left)
                self._position_steps.learn(self.iterate.positions, left)
                if config.error_metric == "poisson" and self._object_power > 0:
                    self._probe_prior.learn(self.iterate.probe, self._object_power, left)
                self.weights = self._misfits.weights(errors)
                if epoch + 1 >= _LIGHT_WAITS:
                    self.beam.learn(modelled, noise_of_root(self._mean, left))
                    self.background.learn(far)
                    self._model.light = Light(self.beam.intensities, self.background.level)
                is_late = config.metric != "amplitude" and self._schedule.is_late(since + 1)
                at_noise = is_late and left <= _NEAR_NOISE * self._noise
                if at_noise and self.history and error > (1.0 - _FALLS) * self.history[-1]:
                    self._schedule.wind_down(since + 1)
                if at_noise and not self._model.by_likelihood:
                    best_error = self._follow_likelihood()
                    self._work.add(_ROUNDS * _EPOCHS_A_ROUND)
            else:  # not "if error >": NaN compares with nothing
                logger.log(
                    self._log,
                    "Refinement epoch %d raised the error from %.3g to %.3g: going on from the last good "
                    "estimate with half the step.",
                    epoch + 1,
                    best_error,
                    error,
                )
                self.iterate = self._accepted.copy(self._arrays)
                self._scale *= 0.5
                self._rest()
            before = self.history[-1] if self.history else self.start_error
            self._vary(epoch, error > (1.0 - _FALLS_MUCH) * before)
            self.history.append(error if math.isfinite(error) else before)
            if on_epoch is not None:
                seconds = time.monotonic() - begin
                speed = patterns / max(seconds, 1e-9)
                last = self._first + self._schedule.epochs
                on_epoch(RefinementReport(epoch + 1, last, self.history[-1], seconds, speed))

    def _epochs(self) -> Iterator[int]:
        """Numbers of the epochs; there are more where the probe is found to vary on the way."""
        epoch = 0
        while epoch < self._first + self._schedule.epochs:
            yield epoch
            epoch += 1

    def _vary(self, epoch: int, is_settled: bool) -> None:
        """After an epoch: let the probe vary if the patterns call for it, and begin again with such a probe.

        Object and positions have taken on what the probe did until then. As long as the error falls, a probe
        that is the same for all patterns may be all that is needed.
        """
        self.varying.keep_mean(self.iterate)
        asks = is_settled and (epoch + 1) % _VARIATION_ASKED == 0 and self.iterate.variation is None
        if not (self._may_vary and asks and self._improved and not self._model.by_likelihood):
            return
        if self.varying.begin(self.iterate, self.weights, self._left):
            self._first, self._schedule = epoch + 1, Schedule(self._config.epochs)
            self._work.add(float(self._first))
            # what has been found so far is still there for steps that come to nothing
            self._accepted = self.iterate.copy(self._arrays)
            self.iterate.canvas = self._arrays.copy(self.start.canvas)
            self.iterate.positions = self._beginning.copy()
            self._position_steps = PositionSteps(self._beginning.copy(), self._config, self._mean)
            self._rest()

    def _follow_likelihood(self) -> float:
        """Steps go by the likelihood from now on; the error of the estimate, whose probe is scaled for it."""
        self._model.by_likelihood = True
        if self.background.level == 0:
            self._find_small_background()
        found = self._model.compare(self.iterate, self._scan)
        # amplitudes that fit best have less power than the counts, which the object would take on now
        factor = math.sqrt(float(found.counts[self._sound].sum() / found.modelled[self._sound].sum()))
        self.iterate.scale(factor)
        self._probe_velocity *= factor
        self._power *= factor**2
        self._accepted = self.iterate.copy(self._arrays)
        logger.log(
            self._log,
            "What is left is near the noise of photons: from here on, refinement follows the likelihood of "
            "the counts. The error, which is that of amplitudes, may be a little higher for it.",
        )
        return self._weighted(self._model.compare(self.iterate, self._scan).errors)

    def _find_small_background(self) -> None:
        """The likelihood, other than amplitudes, is bettered by a background of any level."""
        self.background.begin(at_any_level=True)
        for _ in range(_LIGHT_PASSES):
            self._model.light = Light(self.beam.intensities, self.background.level)
            found = self._model.gradients(
                self.iterate, self._scan, probe=False, positions=False, light=True, weights=self.weights
            )
            assert found.far is not None
            self.background.learn(found.far)
        self._model.light = Light(self.beam.intensities, self.background.level)

    def solve_object(self, should_stop: Callable[[], bool] | None) -> None:
        """The object alone, from all patterns at once, where photons are all that is left."""
        if self.stopped or not (self._changed_metric or self._is_all_noise()):
            return
        logger.log(self._log, "The object is solved for by all patterns at once.")
        model = self._likelihood(math.inf)
        self.take_off_ramp()  # which the object's spectrum would be taken for
        self._object_steps.prepare(self.iterate)
        if not self._changed_metric:
            self._solve_anew(model, should_stop)
            return
        for number in range(_MOST_ROUNDS):
            if number >= _ROUNDS:
                self._work.add(_EPOCHS_A_ROUND)
            before = self._arrays.copy(self.iterate.canvas)
            self._object_steps.learn(self.iterate, self._left)

            def on_progress(
                part: float, done: float = self._first + self._config.epochs + number * _EPOCHS_A_ROUND
            ) -> None:
                self._work.reach(done + part * _EPOCHS_A_ROUND)

            self.stopped = self._object_steps.solve(
                model, self.iterate, self.weights, self._per_photon, _STEPS, on_progress, should_stop
            )
            if self.stopped:
                return
            on_progress(1.0)  # the steps may have come to an end before they were all taken
            changed = self._object_steps.change(before, self.iterate.canvas)
            if number + 1 >= _ROUNDS and not changed > _SETTLED:
                return

    def is_far_from_noise(self, times: float) -> bool:
        """Whether the last good epoch left of the patterns more than so many times what photons leave."""
        return self._left > times * self._noise

    def _solve_anew(self, model: ScanModel, should_stop: Callable[[], bool] | None) -> None:
        more = ROUNDS * _EPOCHS_A_ROUND
        self._work.add(more)
        epochs = self._config.epochs
        self.stopped, self.finest = self._object_steps.solve_anew(
            model,
            self.iterate,
            self.weights,
            self._per_photon,
            _STEPS,
            ROUNDS,
            lambda part: self._work.reach(epochs + part * more),
            should_stop,
        )

    def _is_all_noise(self) -> bool:
        """Whether the likelihood was followed from the beginning, and has nothing but photons' noise left."""
        if self._config.error_metric != "poisson" or not self._config.epochs:
            return False
        errors = self._model.compare(self.iterate, self._scan).errors
        mean_error = float(self.weights @ errors) / float(self.weights.sum())
        return mean_error <= NEAR_NOISE * self._noise

    @property
    def mean_photons(self) -> NDArray[np.float64]:
        """The mean pattern in photons, (N, N)."""
        return self._mean / self._per_photon

    @property
    def _changed_metric(self) -> bool:
        """Whether ``"auto"`` came to follow the likelihood."""
        return self._config.metric == "auto" and self._model.by_likelihood

    def take_off_ramp(self) -> None:
        """Leave the object flat on the whole, at the cost of a probe that may be changed."""
        if not (self._improved and self._config.probe):
            return
        iterate, get, put = self.iterate, self._arrays.get, self._arrays.put
        light = get(self._model.illumination(iterate, self._scan))
        touched = get(self._model.touched(iterate, self._scan))
        probe, varied = get(iterate.probe), iterate.variation
        waves = probe[None] if varied is None else np.concatenate((probe[None], get(varied.shapes)))
        canvas, waves = without_ramp(get(iterate.canvas), waves, light, touched)
        if varied is not None:
            varied = replace(varied, shapes=put(waves[1:]))
        self.iterate = replace(iterate, canvas=put(canvas), probe=put(waves[0]), variation=varied)

    def finish(self) -> Iterate:
        """The last estimate, or the start if that was better after all."""
        found = self._model.compare(self.iterate, self._scan)
        if self._config.epochs:
            self.weights = self._misfits.weights(found.errors)
        self.error = self._weighted(found.errors)
        if not (self.weights == 1).all():
            self.start_error = self._weighted(self._model.compare(self.start, self._scan).errors)
        if self._is_worse_than_start():
            if self._config.epochs and not self.stopped:
                logger.log(
                    self._warn,
                    "Refinement did not improve on the start (error %.3g, then %.3g): the start is kept.%s",
                    self.start_error,
                    self.error,
                    ""
                    if self._config.metric == "poisson"
                    else " Where a pattern has some hundred photons or fewer, refine with the metric "
                    '"poisson".',
                )
            self.iterate, self.error = self.start, self.start_error
        return self.iterate

    def _is_worse_than_start(self) -> bool:
        """By what the last steps went by: the likelihood's best has not the least error of amplitudes.

        Where nothing but the noise of photons is left, a start that leaves less has fitted the noise, as a
        network's object of few patterns at a time does.
        """
        per_pattern = float(self.weights @ self._counts) / float(self.weights.sum())
        if self._config.epochs and self.error * per_pattern <= _NEAR_NOISE * self._noise:
            return False
        if not (self._changed_metric and math.isfinite(self.error)):
            return not self.error <= self.start_error
        likelihood = self._likelihood()
        found, start = (likelihood.compare(one, self._scan) for one in (self.iterate, self.start))
        return not float(self.weights @ found.errors) <= float(self.weights @ start.errors)

    def _likelihood(self, outlier_ratio: float = OUTLIER_RATIO) -> ScanModel:
        """The scan in the same light, measured by the likelihood."""
        model = ScanModel(self._raw, self._arrays, "poisson", outlier_ratio)
        model.light = self._model.light
        return model

    def _weighted(self, errors: NDArray[np.float64]) -> float:
        return float(self.weights @ errors) / float(self.weights @ self._counts)

    # ------------------------------------------------------------------ steps

    def _rest(self) -> None:
        self._object_steps.rest()
        self.varying.rest()
        self._probe_velocity = self.iterate.probe * 0

    def _update(self, indices: NDArray[np.int64], done: float) -> Gradients:
        """Take one step; ``done`` epochs are done. Returns how the batch's patterns agreed before it."""
        config, iterate = self._config, self.iterate
        probe = config.probe and done >= _WARM_UP
        # shapes of a probe that varies explain small displacements, too, and are better at it at first
        wait = POSITIONS_WAIT if iterate.variation is None else max(POSITIONS_WAIT, STEADY * config.epochs)
        positions = config.positions and done >= wait
        gradients = self._model.gradients(
            iterate, indices, probe=probe, positions=positions, light=True, weights=self.weights
        )
        rate = self._scale * self._schedule.step(done)
        warm = min(1.0, (done + 1.0 / self._batches) / _WARM_UP)
        self._object_steps.step(iterate, gradients.canvas, indices, rate * warm)
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
