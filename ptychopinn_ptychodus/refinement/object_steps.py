"""Steps of the object: preconditioned, accelerated, and held by what is known of objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrays import LEAST, Array, Arrays
from .config import RefinementConfig
from .curvature import Curvature, object_curvature
from .gradients import Gradients
from .iterate import Iterate
from .model import ScanModel
from .prior import ObjectPrior
from .whole_scan import LEAST_GAIN, Posterior, most_probable

_FULL_BATCH = 40  # patterns for a step of full length
_LIT = 0.1  # of the strongest light
_HARDLY = 0.1  # change of the logarithm of an object's power


@dataclass(frozen=True)
class Around:
    """What an object is held by in the place of its mean.

    Attributes
    ----------
    centre
        (H, W) complex64, another object.
    freedom
        See :meth:`.ObjectPrior.field_around`.
    """

    centre: NDArray[np.complex64]
    freedom: float


@dataclass(frozen=True)
class Doubt:
    """How far an object may be wrong.

    Attributes
    ----------
    mean
        Of the object.
    spread
        (2,) standard deviation of its real and its imaginary part, its mean being 1, where light is usual.
    each
        (2, H, W) float32, the same for each pixel.
    """

    mean: complex
    spread: NDArray[np.float64]
    each: NDArray[np.float32]


class ObjectSteps:
    """Steps of one object, batch after batch.

    Parameters
    ----------
    model, arrays
        The scan, and the library to work with.
    config
        Length of the steps, and what holds them.
    start
        Where the object starts: what is hardly lit is held there.
    batches
        In how many the scan is dealt out.
    mean
        (N, N) mean pattern in counts, as :meth:`.model.ScanModel.mean_counts` has it. None: what objects are
        like is not learnt, and the patterns alone hold this one.
    patterns
        Numbers of the patterns that are dealt out, where they are a part of the scan; None: all.
    """

    def __init__(
        self,
        model: ScanModel,
        arrays: Arrays,
        config: RefinementConfig,
        start: Iterate,
        batches: int,
        mean: NDArray[np.float64] | None,
        patterns: NDArray[np.int64] | None = None,
    ) -> None:
        self._model = model
        self._arrays = arrays
        self._config = config
        self._start = start
        self._batches = batches
        self._scan = np.arange(len(start.positions)) if patterns is None else patterns
        count = len(self._scan)
        # with few patterns a step follows their noise, all the more the longer it is
        self._length = config.object_step * min(1.0, math.sqrt(count / batches / _FULL_BATCH))
        self._holds = None if mean is None else ObjectPrior(mean, start.canvas.shape, arrays)
        self.rest()

    def rest(self) -> None:
        """Lose all momentum."""
        self._velocity = self._start.canvas * 0

    def let_go(self) -> None:
        """There are no more steps by batches: have the memory back that they take."""
        self._velocity = None

    def prepare(self, iterate: Iterate) -> None:
        """Before an epoch: how the scan lights the object."""
        illumination = self._model.illumination(iterate, self._scan)
        self._mean_illumination = illumination / self._batches
        strongest = float(self._mean_illumination.max())
        self._floor = self._config.illumination_floor * strongest
        self._ridge = self._config.ridge * strongest
        self._touched = self._model.touched(iterate, self._scan) > 0

    def learn(self, iterate: Iterate, error: float) -> None:
        """After an epoch: what objects of its kind look like; ``error`` is the mean of a pattern."""
        self._prior.learn(self._arrays.get(iterate.canvas), self._arrays.get(self._illumination), error)

    def change(self, before: Array, now: Array) -> float:
        """Of one canvas into another, (H, W), over the contrast of that: root mean squares over the light."""
        light = self._mean_illumination
        total = float(light.sum())
        contrast = abs(now - complex((light * now).sum()) / total)
        changed = abs(now - before)
        return math.sqrt(float((light * changed**2).sum()) / max(float((light * contrast**2).sum()), LEAST))

    def solve(
        self,
        model: ScanModel,
        iterate: Iterate,
        weights: NDArray[np.float64],
        per_photon: float,
        steps: int,
        on_progress: Callable[[float], None] | None,
        should_stop: Callable[[], bool] | None,
        known: Curvature | None = None,
        around: Around | None = None,
        least_gain: float = LEAST_GAIN,
    ) -> bool:
        """Put the most probable object in the place of the iterate's, where patches touch it.

        The likelihood is that of photons, of ``per_photon`` counts each; ``known`` is how much they tell
        around the iterate, which is measured unless it is given. ``around`` takes the place of the object's
        mean, and ``least_gain`` is as :func:`.most_probable` takes it. Returns whether it was stopped, which
        may be before all steps are taken. See :mod:`.whole_scan`.
        """
        arrays = self._arrays
        model.hold(iterate)
        if known is None:
            known = self.known(model, iterate, per_photon)
        canvas = arrays.get(iterate.canvas)
        if around is None:
            field = self._prior.field(canvas, known)
        else:
            field = self._prior.field_around(around.centre, canvas, known, around.freedom)
        posterior = Posterior(model, arrays, iterate, field, weights / per_photon, should_stop)
        numbers, stopped = most_probable(posterior, steps, on_progress, least_gain)
        iterate.canvas += (posterior.canvas(numbers) - iterate.canvas) * self._touched
        return stopped

    def solve_anew(
        self,
        model: ScanModel,
        iterate: Iterate,
        weights: NDArray[np.float64],
        per_photon: float,
        steps: int,
        rounds: int,
        on_progress: Callable[[float], None],
        should_stop: Callable[[], bool] | None,
    ) -> tuple[bool, float]:
        """As :meth:`solve`, and what objects of its kind look like is learnt on the way, from nothing.

        The powers are those of any object first, and learnt from the most probable one, round after round,
        ``rounds`` at most, until they hardly change.

        Returns
        -------
        stopped
            Whether it was stopped.
        finest
            Frequency up to which something of the object stands out of the noise, cycles per pixel; 0: none.
        """
        get, finest = self._arrays.get, 0.0
        light = get(self._illumination)
        self._prior.begin_anew(get(iterate.canvas), light)
        known = self.known(model, iterate, per_photon)
        for number in range(rounds):

            def tell(part: float, done: int = number) -> None:
                on_progress((done + part) / rounds)

            if self.solve(model, iterate, weights, per_photon, steps, tell, should_stop, known):
                return True, finest
            known = self.known(model, iterate, per_photon)
            changed = self._prior.learn_by(get(iterate.canvas), light, known)
            finest = self._prior.finest(known)
            if abs(math.log(changed)) < _HARDLY:
                break
        on_progress(1.0)
        return False, finest

    def doubt(self, known: Curvature) -> Doubt:
        """How far the iterate learnt from last may be wrong, by what the patterns tell."""
        light = self._arrays.get(self._illumination)
        lit = light > _LIT * light.max()
        usual = float(np.median(light[lit]))
        dimmer = np.sqrt(usual / np.maximum(light, _LIT * light.max()))
        spread = self._prior.spread(known) / abs(self._prior.mean)
        return Doubt(self._prior.mean, spread, (spread[:, None, None] * dimmer).astype(np.float32))

    def known(self, model: ScanModel, iterate: Iterate, per_photon: float) -> Curvature:
        """How much the patterns tell around an iterate."""
        return object_curvature(
            model, self._arrays, iterate, self._illumination, self._prior.turn, per_photon
        )

    @property
    def _prior(self) -> ObjectPrior:
        assert self._holds is not None
        return self._holds

    @property
    def _illumination(self) -> Array:
        """Of the canvas by the whole scan, (H, W), as it was when an epoch was prepared."""
        return self._mean_illumination * self._batches

    def step(self, iterate: Iterate, found: Gradients, rate: float) -> None:
        """One step, in place, by the gradients of a batch, with illumination; the object's is overwritten."""
        xp, in_rows = self._arrays.xp, self._arrays.in_rows
        canvas, velocity = iterate.canvas, self._velocity
        gradient, illumination = found.canvas, found.illumination
        assert illumination is not None
        length = rate * self._length

        def go(rows: slice) -> None:
            divisor = xp.maximum(illumination[rows], self._mean_illumination[rows])
            divisor += self._floor
            towards = gradient[rows]
            pull = xp.clip(self._ridge - self._mean_illumination[rows], 0.0, None)
            towards += pull * (canvas[rows] - self._start.canvas[rows])
            towards *= -length / divisor
            towards += canvas[rows]

        in_rows(go, canvas.shape)
        held = gradient if self._holds is None else self._holds.held(gradient, length)

        def accelerate(rows: slice) -> None:
            towards = (held[rows] - canvas[rows]) * self._touched[rows]
            nesterov(canvas[rows], velocity[rows], towards, self._config.momentum)

        in_rows(accelerate, canvas.shape)


def nesterov(point: Array, velocity: Array, step: Array, momentum: float) -> None:
    """``v ← βv + s``, ``y ← y + s + βv``, in place."""
    velocity *= momentum
    velocity += step
    point += step
    step = velocity * momentum
    point += step
