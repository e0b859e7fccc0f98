"""The halves of a scan, each asked for its own object: what comes back in both is in the patterns.

Probe, positions and light stay those of a result. Its object loses its finest details first, and each half of
the patterns then has some epochs to make of it what they ask for. Where the halves disagree, there is noise,
or what a model leaves out; where they agree with each other and not with the result, the result has something
that no pattern asks for, as a network's invention is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data import large_arrays
from ..data.estimate import Estimate
from ..data.grouping import neighbourhood_order
from ..data.raw import RawData
from ..refinement.arrays import Arrays
from ..refinement.batches import spread_batches
from ..refinement.config import RefinementConfig
from ..refinement.iterate import Iterate, Light, Variation, chequerboard
from ..refinement.model import ScanModel
from ..refinement.object_steps import ObjectSteps
from ..refinement.schedule import decay
from ..refinement.start import StartError, Window

HALVES = "What halves of the scan make of the object"

LEAST_PATTERNS = 8
"""Of a scan that can be halved."""

DETAIL = 1 / 32
"""Part of a pattern's width: standard deviation of the Gaussian that takes the finest details off the start.

Without that, what no pattern determines would come back by itself. With twice as much, strong objects are
still on their way back after these epochs.
"""

_STEPS = 144  # of each half, roughly: by then halves of made scans hardly depended on the start any more
_BATCH, _MOST_BATCHES = 6, 24  # patterns in a batch, at least, and batches of a half
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 12


@dataclass(frozen=True, eq=False)
class Halves:
    """What each half of a scan makes of an object.

    Attributes
    ----------
    objects
        (H, W) complex64 each, on the grid of the result; where no pattern of a half touches it, the start.
    light
        (H, W) float32 each: illumination by that half, in counts.
    """

    objects: tuple[NDArray[np.complex64], NDArray[np.complex64]]
    light: tuple[NDArray[np.float32], NDArray[np.float32]]


def halves_of(positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the patterns of two halves, ascending, each spread evenly over positions (M, 2).

    Of four neighbours on a raster, those of a diagonal are in one half: with every other row, or column, a
    half would have less overlap one way than the other.
    """
    order = neighbourhood_order(positions)
    number = np.arange(len(order))
    is_second = (number ^ (number >> 1)) & 1 == 1
    return np.sort(order[~is_second]), np.sort(order[is_second])


def refined_by_halves(
    raw: RawData,
    found: Estimate,
    *,
    metric: str,
    weights: NDArray[np.float64],
    light: Light,
    variation: Variation | None,
    arrays: Arrays,
    on_progress: Callable[[float], None],
    should_stop: Callable[[], bool],
    detail: float = DETAIL,
) -> Halves | None:
    """Have each half of a scan make its own object, from that of a result.

    Parameters
    ----------
    raw
        The scan; its patterns are read in chunks and never copied as a whole.
    found
        The result; the scale of its probe is fitted.
    metric
        ``"amplitude"`` or ``"poisson"``: what steps go by.
    weights
        (M,) weight of each pattern.
    light, variation
        As :class:`~ptychopinn_ptychodus.refinement.report.Refined` has them.
    arrays
        The library to work with.
    on_progress
        Called with the part of the work that is done, 0 to 1, after every batch.
    should_stop
        Asked before every batch.
    detail
        As :data:`DETAIL`; 0 starts from the result as it is.

    Returns
    -------
    Halves or None
        None if it was asked to stop.

    Raises
    ------
    StartError
        If the result puts no light on the detector, or is not finite.
    """
    recorded = np.stack((raw.xcoords, raw.ycoords), -1)
    positions = recorded if found.positions is None else np.asarray(found.positions, np.float64)
    window = Window(found.object.shape, raw, float(np.abs(positions - recorded).max()) + 1.0)
    result = _iterate(found, window, positions, variation, arrays)
    model = ScanModel(raw, arrays, metric)
    model.light = light
    _fit_scale(result, model, metric, weights)
    model.hold(result)  # neither probe nor positions change
    whole = result.canvas
    begin = replace(result, canvas=_set_aside(_without_details(arrays.get(whole), detail * raw.N)))
    del result, whole
    rng = np.random.default_rng(0)
    object_ = np.asarray(found.object, np.complex64)
    made: list[tuple[NDArray[np.complex64], NDArray[np.float32]]] = []
    for number, part in enumerate(halves_of(positions)):

        def tell(done: float, first: int = number) -> None:
            on_progress((first + done) / 2)

        # a canvas takes much: all that one half makes of them is gone before the other one begins
        half = _refined_by(part, begin, model, arrays, weights, rng, tell, should_stop)
        if half is None:
            return None
        canvas, lit = half
        del half
        shown = _set_aside(window.put_back(object_, canvas))
        made.append((shown, window.put_back(np.zeros(object_.shape, np.float32), lit)))
        del canvas, lit, shown
    (first, of_first), (second, of_second) = made
    return Halves((first, second), (of_first, of_second))


def _refined_by(
    part: NDArray[np.int64],
    begin: Iterate,
    model: ScanModel,
    arrays: Arrays,
    weights: NDArray[np.float64],
    rng: np.random.Generator,
    on_progress: Callable[[float], None],
    should_stop: Callable[[], bool],
) -> tuple[NDArray[np.complex64], NDArray[np.float32]] | None:
    """The canvas that these patterns make of the one to begin with, and how they light it; None: stopped."""
    iterate = replace(begin, canvas=arrays.put(begin.canvas))
    batches = int(np.clip(len(part) // _BATCH, 1, _MOST_BATCHES))
    epochs = int(np.clip(math.ceil(_STEPS / batches), _FEWEST_EPOCHS, _MOST_EPOCHS))
    # the power of an object's details would be learnt after an epoch, and is not: the patterns alone speak
    steps = ObjectSteps(model, arrays, RefinementConfig(), iterate.copy(arrays), batches, None, part)
    steps.prepare(iterate)
    order = part[neighbourhood_order(begin.positions[part])]
    for step in range(epochs * batches):
        if step % batches == 0:
            dealt = spread_batches(order, batches, rng)
        if should_stop():
            return None
        gradients = model.gradients(
            iterate, next(dealt), probe=False, positions=False, illumination=True, weights=weights
        )
        done = (step + 1) / (epochs * batches)
        steps.step(iterate, gradients, decay(done))
        del gradients
        on_progress(done)
    return arrays.get(iterate.canvas), arrays.get(model.illumination(iterate, part))


def _set_aside(object_: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """An object that is not needed for a while, of three."""
    return large_arrays.set_aside(object_, HALVES, together=3)


def _iterate(
    found: Estimate,
    window: Window,
    positions: NDArray[np.float64],
    variation: Variation | None,
    arrays: Arrays,
) -> Iterate:
    """A result as the model takes it."""
    board = chequerboard(found.probe.shape[-1])

    def put(array: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
        put: NDArray[np.complex64] = arrays.put(np.asarray(array * board, np.complex64))
        return put

    varied = None if variation is None else Variation(put(variation.shapes), variation.weights)
    canvas = arrays.put(window.cut(np.asarray(found.object, np.complex64)))
    return Iterate(canvas, put(found.probe), window.inside(positions), varied)


def _fit_scale(result: Iterate, model: ScanModel, metric: str, weights: NDArray[np.float64]) -> None:
    found = model.compare(result, np.arange(len(weights)))
    sums = (float(weights @ each) for each in (found.counts, found.cross, found.modelled))
    counts, cross, modelled = sums
    if not (counts > 0 and cross > 0 and modelled > 0 and math.isfinite(modelled)):
        raise StartError("The result puts no light where the patterns have it, or is not finite.")
    result.scale(math.sqrt(counts / modelled) if metric == "poisson" else cross / modelled)


def _without_details(canvas: NDArray[np.complex64], blur: float) -> NDArray[np.complex64]:
    """A canvas blurred by a Gaussian of so many pixels."""
    if not blur > 0:
        return canvas
    blurred = np.empty_like(canvas)
    blurred.real, blurred.imag = (
        ndimage.gaussian_filter(part, blur, mode="nearest") for part in (canvas.real, canvas.imag)
    )
    return blurred
