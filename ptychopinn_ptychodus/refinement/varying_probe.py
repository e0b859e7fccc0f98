"""A probe that changes its shape from pattern to pattern: a beam that moves on the lens, a focus that drifts.

In pattern k, each mode m of the probe is ``P_m + Σ_j c_kj E_jm``: a few shapes E_j, the same for the whole
scan, by weights c_kj that are real, as what a motion does to a wave is (orthogonal probe relaxation; Odstrčil
et al., Opt. Express 24, 8360, 2016). The shapes are the strongest that the gradients of single patterns have
in common, and take steps from there.

A fixed probe is wrong for every pattern in its own way where the object is not found yet, too, or where a
position is wrong: but then three numbers a pattern do not put it right. So a probe is taken to vary only if
shapes by which one half of some patterns differ explain most of what the other half does not fit. These have
no part of what has another name: a probe that is brighter is a matter of the beam, see :mod:`.beam`, and one
that is elsewhere on the sample one of the positions.
"""

from __future__ import annotations

import logging
import math

import numpy as np
from numpy.typing import NDArray

from .arrays import LEAST, Array, Arrays
from .config import RefinementConfig
from .gradients import Gradients, VariationGradients
from .iterate import Iterate, Variation, frequencies, power
from .model import ScanModel
from .object_steps import nesterov

logger = logging.getLogger(__name__)

_SHAPES = 3
_ASKED = 256
"""Patterns whose gradients are looked at, half of them for the shapes and half for what these explain."""
_ELEMENTS = 1 << 23
"""... and complex numbers that those for the shapes may have in all, where patterns are large."""
_FEWEST = 16  # patterns on either side
_FAR_FROM_NOISE = 1.5  # times what photons leave
_EXPLAINED = 0.5
"""Of what is not fitted in other patterns, beyond noise. On scans of many kinds whose probe is steady, it is
up to 0.42, where an object of strong phase is not found yet; on those whose probe varies, 0.6 to 0.8."""
_PASSES = 3  # over the patterns, for weights of shapes that are new
_FLOOR = 1e-3  # of the sum of a pattern's curvatures
_MOMENTUM = 0.5  # of the shapes: more, and steps of shapes and of weights outrun each other
_LENGTH = 1.5  # of a step of the weights; 2 would solve for one alone if phases at the detector were any


class VaryingProbe:
    """Shapes and weights of one scan; the iterate has them, as its variation.

    Parameters
    ----------
    model, arrays
        The scan, and the library to work with.
    config
        Length of the steps, and their momentum.
    order
        (M,) numbers of the patterns, neighbours near each other.
    noise
        Error of a pattern that photons leave.
    """

    def __init__(
        self,
        model: ScanModel,
        arrays: Arrays,
        config: RefinementConfig,
        order: NDArray[np.int64],
        noise: float,
    ) -> None:
        self._model = model
        self._arrays = arrays
        self._config = config
        self._order = order
        self._noise = noise
        self._velocity: Array = None

    def begin(self, iterate: Iterate, weights: NDArray[np.float64], error: float) -> bool:
        """Let the probe vary if the patterns call for it.

        Parameters
        ----------
        iterate
            The estimate so far, of a probe that is the same for all patterns; it is given a variation.
        weights
            (M,) what each pattern counts for: broken ones are not asked.
        error
            Mean of a pattern.

        Returns
        -------
        bool
            Whether it does.
        """
        if error < _FAR_FROM_NOISE * self._noise:
            return False
        whole = self._order[weights[self._order] == 1.0]
        most = min(_ASKED, 2 * _ELEMENTS // math.prod(iterate.probe.shape))
        asked = whole[np.linspace(0, len(whole) - 1, min(len(whole), most)).astype(np.int64)]
        learnt, others = np.sort(asked[0::2]), np.sort(asked[1::2])
        if len(others) < _FEWEST:
            return False
        tried = Iterate(iterate.canvas, iterate.probe, iterate.positions, self._shapes(iterate, learnt))
        self._fit_weights(tried, others)
        before, after = (float(self._model.compare(i, others).errors.mean()) for i in (iterate, tried))
        logger.debug("Shapes of a varying probe would lower the error from %.4g to %.4g.", before, after)
        if not before - after > _EXPLAINED * max(before - self._noise, (_FAR_FROM_NOISE - 1.0) * self._noise):
            return False
        iterate.variation = tried.variation
        self._fit_weights(iterate, np.sort(self._order))
        self.keep_mean(iterate)
        return True

    def keep_mean(self, iterate: Iterate) -> None:
        """After an epoch: let the probe be the mean one, and the shapes the principal ones, at rest."""
        self.rest()
        variation = iterate.variation
        if variation is None:
            return
        arrays = self._arrays
        mean = variation.weights.mean(axis=0)
        iterate.probe += (variation.shapes * arrays.put(mean.astype(np.float32))[:, None, None, None]).sum(0)
        variation.weights -= mean
        shapes = _real(arrays.get(arrays.fft(arrays.copy(variation.shapes))))
        q, r = np.linalg.qr(shapes.T.astype(np.float64))
        left, sizes, right = np.linalg.svd(variation.weights @ r.T, full_matrices=False)
        variation.shapes = self._as_strong_as_probe(iterate, right @ q.T)
        variation.weights = left * sizes / math.sqrt(float(power(iterate.probe).sum()))

    def rest(self) -> None:
        """Lose all momentum."""
        self._velocity = None

    def step(self, iterate: Iterate, gradients: Gradients, indices: NDArray[np.int64], rate: float) -> None:
        """One step, in place, by the gradients of a batch; none if the probe does not vary."""
        found, variation = gradients.variation, iterate.variation
        if found is None or variation is None:
            return
        assert gradients.object_power is not None
        usual = np.mean(variation.weights**2, axis=0) * float(gradients.object_power.max())
        strongest = np.asarray(self._arrays.get(found.power)).max((1, 2))
        size = -rate * self._config.probe_step / np.maximum(np.maximum(strongest, usual), LEAST)
        step = found.shapes * self._arrays.put(size.astype(np.float32))[:, None, None, None]
        if self._velocity is None:
            self._velocity = step * 0
        nesterov(variation.shapes, self._velocity, step, _MOMENTUM)
        variation.weights[indices] -= rate * _solved(found)

    def tell(self, iterate: Iterate) -> None:
        """Say in the log how much the probe varies, if it does."""
        if iterate.variation is not None:
            logger.warning(
                "The probe changes from pattern to pattern, by %.1f %% of its amplitude root mean square, as "
                "that of a beam does that moves on its lens: each pattern was fitted with its own, a mixture "
                "of %d shapes with the mean one. The mean one is handed over; with it alone, patterns fit "
                "worse than the error says.",
                100.0 * strength(iterate.variation, iterate.probe),
                len(iterate.variation.shapes),
            )

    # ------------------------------------------------------------------ shapes and weights

    def _shapes(self, iterate: Iterate, learnt: NDArray[np.int64]) -> Variation:
        """Shapes that the gradients of these patterns have in common, as strong as the probe; no weights."""
        parts = [np.asarray(self._arrays.get(p)) for p in self._model.probe_gradients(iterate, learnt)]
        slopes = self._apart(iterate, np.concatenate(parts))
        # principal components, by way of the products of all pairs
        values, vectors = np.linalg.eigh((slopes @ slopes.T).astype(np.float64))
        strongest = vectors[:, np.argsort(values)[::-1][:_SHAPES]].T.astype(np.float32) @ slopes
        return Variation(
            self._as_strong_as_probe(iterate, strongest), np.zeros((len(iterate.positions), _SHAPES))
        )

    def _fit_weights(self, iterate: Iterate, indices: NDArray[np.int64]) -> None:
        """Weights of these patterns, by the shapes as they are."""
        assert iterate.variation is not None
        for _ in range(_PASSES):
            found = self._model.gradients(iterate, indices, probe=True, positions=False).variation
            assert found is not None
            iterate.variation.weights[indices] -= _LENGTH * _solved(found)

    def _apart(self, iterate: Iterate, spectra: NDArray[np.complexfloating]) -> NDArray[np.float32]:
        """Far fields (B, modes, N, N) as real vectors, (B, 2 modes N²), less what has another name.

        That is the probe itself, which is brighter or dimmer, or turned in phase, which no pattern shows; and
        its derivatives, by which it is elsewhere on the sample.
        """
        probe = np.asarray(self._arrays.get(self._arrays.fft(self._arrays.copy(iterate.probe))))
        across = 1j * frequencies(probe.shape[-1])
        known = np.stack((probe, 1j * probe, across * probe, across[:, None] * probe))
        q = np.linalg.qr(_real(known).T.astype(np.float64))[0].astype(np.float32)
        vectors = _real(spectra)
        return np.asarray(vectors - (vectors @ q) @ q.T)

    def _as_strong_as_probe(self, iterate: Iterate, vectors: NDArray[np.floating]) -> Array:
        """The shapes of such vectors, (K, modes, N, N) on the device."""
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1), LEAST)[:, None]
        vectors *= math.sqrt(float(power(iterate.probe).sum()))
        half = vectors.shape[1] // 2
        spectra = (vectors[:, :half] + 1j * vectors[:, half:]).reshape(-1, *iterate.probe.shape)
        return self._arrays.ifft(self._arrays.put(spectra.astype(np.complex64)))


def strength(variation: Variation, probe: Array) -> float:
    """Root mean square of what is added to the probe, over the probe."""
    each = (variation.weights**2).mean(axis=0)
    sizes = [float(power(shape).sum()) for shape in variation.shapes]
    return math.sqrt(float(each @ np.array(sizes)) / float(power(probe).sum()))


def turned_alike(
    shapes: NDArray[np.complex64], modes: NDArray[np.complex64], orthogonal: NDArray[np.complex64]
) -> NDArray[np.complex64]:
    """Shapes (K, modes, N, N), mixed as modes are to be orthogonal ones, (modes, N, N) both."""
    mixture = orthogonal.reshape(len(modes), -1) @ np.linalg.pinv(modes.reshape(len(modes), -1))
    return np.asarray(np.einsum("nm,kmyx->knyx", mixture, shapes), np.complex64)


def _solved(found: VariationGradients) -> NDArray[np.float64]:
    """What changes of the weights, (B, K), would take their slopes to 0 if the curvature were all."""
    curvature = found.curvature
    floor = _FLOOR * np.trace(curvature, axis1=1, axis2=2)[:, None, None] + LEAST
    return np.asarray(
        np.linalg.solve(curvature + floor * np.eye(curvature.shape[1]), found.weights[..., None])[..., 0]
    )


def _real(values: NDArray[np.complexfloating]) -> NDArray[np.float32]:
    flat = values.reshape(len(values), -1)
    return np.concatenate((flat.real, flat.imag), axis=1).astype(np.float32)
