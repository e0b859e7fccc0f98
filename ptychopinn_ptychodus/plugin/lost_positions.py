"""Positions of a stream that belong to other frames than they were given to, and what is to be done.

Times of frames and positions tell it while the scan is recorded, and exactly. Where there are none to be
compared, it is looked in the end whether the patterns fit better with the positions of their neighbours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.raw import RawData
from ..live.position_shifts import Shift
from ..live.timed_positions import TimedPositions
from ..ptychodus_io.names import LIBRARY, PRODUCT_FILE

logger = logging.getLogger(LIBRARY)

_UNKNOWN = (
    "Neither times nor patterns tell from which frame on each has the position of another one; if it is not "
    'at the very end, the object is wrong from there on. Have positions taken by time ("positions_by": '
    '"time"), if detector and encoders have one clock: one that is lost costs one frame then.'
)
_LEAST = 8  # frames, of which a fit can tell anything


def warnings_of(
    positions: TimedPositions, scan: Callable[[], RawData], numbers: NDArray[np.int64], directory: Path
) -> tuple[str, ...]:
    """What a person must not miss of positions that were taken by order; empty if they are right.

    Parameters
    ----------
    positions
        Which frame was taken where.
    scan, numbers
        All frames that have a position, in the order of their numbers, (M,); the former makes them a scan.
    directory
        Where they are, to be reconstructed.
    """
    if positions.by != "order":
        return ()
    shifts = positions.shifts
    if not shifts and (positions.lacking() or not positions.times_tell):
        shifts = _by_fit(scan, numbers, positions.lacking())
        how = "The patterns fit far better with the positions of their neighbours, from there on"
    else:
        how = "The times of frames and positions say so"
    if not shifts and positions.lacking():
        return (f"{positions.lacking_in_words()} {_UNKNOWN}",)
    return tuple(f"{shift.in_words()} {how}. {_remedy(shift, directory)}" for shift in shifts)


def _by_fit(scan: Callable[[], RawData], numbers: NDArray[np.int64], lacking: int) -> tuple[Shift, ...]:
    # imported here: it is seldom needed
    from ..verdict.lags import find_lag_in

    if len(numbers) < _LEAST:
        return ()
    logger.info("It is looked whether positions, which were taken by order, fit to their frames.")
    # of a lost position, frames belong to the position before theirs
    known = -int(np.sign(lacking)) if abs(lacking) == 1 else 0
    try:
        found = find_lag_in(scan(), known=known)
    except ValueError as exc:  # what is wrong with the scan is said again when it is reconstructed
        logger.warning("It could not be looked whether positions fit to their frames: %s", exc)
        return ()
    if found is None:
        return ()
    first = int(numbers[0 if found.first is None else min(found.first, len(numbers) - 1)])
    return (Shift(first, -found.lag),)


def _remedy(shift: Shift, directory: Path) -> str:
    verb = "Raise" if shift.by > 0 else "Lower"
    return (
        f"From there on, the object is wrong. {verb} probe_position_indexes by {abs(shift.by)} for these "
        f'frames in "{directory / PRODUCT_FILE}", and reconstruct that directory again. If detector and '
        'encoders have one clock, have positions taken by time ("positions_by": "time"): one that is lost '
        "costs one frame then."
    )
