"""Which object a refinement without a network starts from: a flat one, or the one that is given."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ..data.raw import RawData
from .config import RefinementConfig
from .solver import error_of_start
from .start import StartError

logger = logging.getLogger(__name__)

FLAT, OBJECT = "flat", "object"


def chosen_start(
    raw: RawData,
    given: NDArray[np.complexfloating],
    probe: NDArray[np.complexfloating],
    config: RefinementConfig,
    wanted: str,
    *,
    device: str = "auto",
) -> tuple[NDArray[np.complex64], str]:
    """The object to start from, and whether it is ``"flat"`` or the given ``"object"``.

    Parameters
    ----------
    raw
        The scan.
    given
        (H, W) complex object. Whatever it holds, a flat one has its shape.
    probe
        (N, N) or (modes, N, N) complex.
    config
        What is going to be refined; its metric is what decides.
    wanted
        One of :data:`.config.STARTS`. ``"auto"`` takes what explains the patterns better under this probe,
        and so goes on from a result, but not from an object of random numbers or one of another scan.
    device
        As for :func:`.solver.refine`.

    Raises
    ------
    StartError, ValueError
        As :func:`.solver.refine` does, if the flat object cannot be started from either.
    """
    start = np.asarray(given, dtype=np.complex64)
    flat = np.ones_like(start)
    if wanted == OBJECT:
        return start, OBJECT
    usable = np.isfinite(start).all() and start.any()
    if wanted == FLAT or not usable or np.ptp(np.abs(start)) == np.ptp(np.angle(start)) == 0:
        return flat, FLAT
    errors = {}
    for name, object_ in ((FLAT, flat), (OBJECT, start)):
        try:
            errors[name] = error_of_start(raw, object_, probe, config, device=device)
        except StartError:
            if name == FLAT:  # it is the probe, or the scan
                raise
    best = min(errors, key=lambda name: errors[name])
    if OBJECT in errors:
        logger.info(
            "Normalised error: %.4g of the object that is given, %.4g of a flat one. The refinement starts "
            "from the %s.",
            errors[OBJECT],
            errors[FLAT],
            "former" if best == OBJECT else "latter",
        )
    return (start, OBJECT) if best == OBJECT else (flat, FLAT)
