"""The verdict on a reconstruction, as a finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.examination.findings import Action, Finding
from ..data.raw import RawData
from ..refinement.arrays import Arrays, arrays_for
from ..refinement.config import ERROR_METRICS
from ..refinement.iterate import Light
from .bounds import Bounds, bounds_of
from .conjugate import conjugate_of
from .lags import Lagging, find_lag
from .messages import remedy_in_words, summary
from .trial import TIMES, Stopped, Trial, TrialRunner

CODE = "fit"

_NOISE = 1.0
"""An error of at most this multiple of that of noise alone is noise, of which a fit may take up a part."""

_EXPLAINED = 0.02
"""A result needs no trial if its error beyond noise is at most this part of that of the mean pattern."""

_NOTHING = 0.9
"""A result has found nothing if its error is at least this part of that of an empty object."""

_POOR = 0.8
"""A result is wrong if its error beyond noise is more than this part of the mean pattern's.

This holds only if a trial has left far less, see :data:`.trial.TIMES`.
"""

_MUCH, _HARDLY = 0.7, 0.8
"""A result is also wrong if two ratios are larger than these.

The first is that of its error beyond noise to the mean pattern's; the second is that of the trial's error to
that of wrong orientations.
"""

_HALF = 0.5
"""The same ratio as the first of these, above which a result is doubtful if its trial was stopped."""

_BEFORE_TRIAL, _BEFORE_LAGS, _BEFORE_SCALES = 0.1, 0.6, 0.8


def judge(
    raw: RawData,
    object_: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    positions: NDArray[np.float64] | None = None,
    *,
    metric: str = "amplitude",
    error: float | None = None,
    weights: NDArray[np.float64] | None = None,
    light: Light = Light(),  # noqa: B008 (frozen)
    conjugated: bool = False,
    should_stop: Callable[[], bool] | None = None,
    on_progress: Callable[[float], None] | None = None,
    device: str | Arrays = "auto",
) -> Finding:
    """Say whether a reconstruction explains its patterns and, if it does not, what to change.

    Parameters
    ----------
    raw
        The scan. Trials start from its own probe, and not from one that was refined in a wrong reading.
    object_
        (H, W) complex.
    probe
        (modes, N, N) complex; its scale is fitted.
    positions
        (M, 2) [x, y], pixels of the object; those of the scan by default.
    metric
        ``"amplitude"`` or ``"poisson"``: by what errors are measured, as ``error_metric`` of
        :class:`~ptychopinn_ptychodus.refinement.RefinementConfig` has it.
    error
        Error of the whole scan divided by the counts, as the refinement reported it. If it is None, it is
        computed, from a part of the scan.
    weights
        (M,) weight of each pattern; 1 by default.
    light
        Intensities and background that were found along with the object; by default there are none.
    conjugated
        Whether it was made with the complex conjugate of the scan's probe: trials start from that as well.
        What it means is not part of the verdict, see :func:`.conjugate.conjugate_taken`.
    should_stop
        Asked before every batch of a trial. When it answers True, the verdict is made of what is known.
    on_progress
        Called with the part of the work that is done, 0 to 1; 1 at once if no trial is needed.
    device
        As :func:`~ptychopinn_ptychodus.refinement.solver.refine` takes it.

    Returns
    -------
    Finding
        Its subject is ``"result"``, and its action noted, or ignored, which makes it a warning.

    Raises
    ------
    ValueError
        If there are no errors of that metric.
    """
    if metric not in ERROR_METRICS:
        raise ValueError(f'metric is "{metric}": give what errors are measured by, one of {ERROR_METRICS}.')
    tell = on_progress or (lambda fraction: None)
    arrays = arrays_for(device) if isinstance(device, str) else device
    where = (
        np.stack((raw.xcoords, raw.ycoords), -1) if positions is None else np.asarray(positions, np.float64)
    )
    counts_for = np.ones(len(raw)) if weights is None else np.asarray(weights, np.float64)
    modes = np.reshape(probe, (-1, raw.N, raw.N))
    bounds = bounds_of(raw, np.asarray(object_), modes, where, metric, counts_for, arrays, light)
    if error is not None and np.isfinite(error):
        bounds = bounds.with_error(error)
    if not math.isfinite(bounds.error):
        tell(1.0)
        return _finding(False, bounds)
    if bounds.error <= _NOISE * bounds.noise or bounds.unexplained <= _EXPLAINED:
        tell(1.0)
        return _finding(True, bounds)
    tell(_BEFORE_TRIAL)
    own = conjugate_of(raw.probeGuess, modes) if conjugated else raw.probeGuess
    runner = TrialRunner(raw, own, metric, bounds.counts_per_photon, counts_for, arrays, should_stop)
    trial: Trial | None = None
    lagging: Lagging | None = None
    try:
        trial = runner.orientations(lambda part: tell(_BEFORE_TRIAL + part * (_BEFORE_LAGS - _BEFORE_TRIAL)))
        if trial.remedy is None:
            lagging = find_lag(raw, runner)
            tell(_BEFORE_SCALES)
            if lagging is None:
                trial = runner.scales(trial)
    except Stopped:
        sound = bounds.unexplained <= _HALF or bounds.tells_little
        return _finding(sound, bounds, trial, lagging, stopped=True)
    tell(1.0)
    return _finding(_sound(bounds, trial, lagging), bounds, trial, lagging)


def _sound(bounds: Bounds, trial: Trial, lagging: Lagging | None) -> bool:
    if lagging is not None or trial.remedy is not None:
        return False
    if bounds.error >= _NOTHING * bounds.flat and not bounds.tells_little:
        return False
    if bounds.unexplained > _POOR and bounds.error > TIMES * trial.as_it_is.error:
        return False
    if bounds.tells_little:
        return True
    return trial.read_rightly and not (bounds.unexplained > _MUCH and trial.ratio > _HARDLY)


def _finding(
    sound: bool,
    bounds: Bounds,
    trial: Trial | None = None,
    lagging: Lagging | None = None,
    *,
    stopped: bool = False,
) -> Finding:
    values: dict[str, Any] = {
        "error": bounds.error,
        "noise": bounds.noise,
        "ratio": bounds.error / bounds.noise if bounds.noise > 0 else None,
        "bound": bounds.mean_pattern,
        "neighbours": bounds.neighbours,
        "flat": bounds.flat,
        "unexplained": bounds.unexplained,
        "tells_little": bounds.tells_little,
        "counts_per_photon": bounds.counts_per_photon,
    }
    if trial is not None:
        values["trial"] = {
            "as_it_is": trial.as_it_is.error,
            "noise": trial.as_it_is.noise,
            "wrong_orientations": trial.usual,
            "ratio": trial.ratio,
            "orientations": [fit.error for fit in trial.others[:7]],
            "others": {fit.variant.name: fit.error for fit in trial.others[7:]},
            "remedy": trial.remedy is not None,
            "best": trial.best.variant.name,
            "best_scale": trial.best.variant.scale,
            "best_error": trial.best.error,
        }
    if lagging is not None:
        values["lag"] = {
            "frames": lagging.lag,
            "first": lagging.first,
            "as_it_is": lagging.as_it_is.error,
            "error": lagging.fit.error,
        }
    return Finding(
        code=CODE,
        subject="result",
        action=Action.NOTED if sound else Action.IGNORED,
        seen=summary(sound, bounds),
        done=remedy_in_words(sound, bounds, trial, lagging, stopped),
        setting="",
        values=_finite(values),
    )


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values for JSON, which knows no infinity."""
    return {
        key: _finite(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in values.items()
    }
