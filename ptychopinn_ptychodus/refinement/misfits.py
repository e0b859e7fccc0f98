"""Patterns that fit far worse than the rest: frames without beam, flashes, broken read-outs."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

logger = logging.getLogger(__name__)

_TIMES = 3.0
_DEVIATIONS = 6.0
_NEIGHBOURS = 12
NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
_LEFT_OUT = 0.5  # the weight below which a pattern is worth telling of
_NAMED = 10


def patterns_around(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """(M, 13) numbers of each pattern and of the dozen nearest ones, or of as many as there are.

    ``positions`` are (M, 2), in any unit.
    """
    wanted = min(_NEIGHBOURS + 1, len(positions))
    found = cKDTree(positions).query(positions, wanted)[1]
    return np.reshape(found, (len(positions), wanted))


class Misfits:
    """Weights of patterns, by how they fit and how those around them do.

    Parameters
    ----------
    positions
        (M, 2) of the patterns, any unit.
    counts
        (M,) Σ n of each pattern.
    """

    def __init__(self, positions: NDArray[np.float64], counts: NDArray[np.float64]) -> None:
        # over the usual counts at least: dim patterns have few to be compared with, frames without beam none
        self._scale = np.maximum(counts, np.median(counts))
        self._around = patterns_around(positions)

    def weights(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each pattern is to count for, (M,): 1, or less where it fits far worse than the rest.

        It is below 1 only where the error over the counts is beyond 3 medians of it, of the whole scan and of
        the dozen patterns around, and beyond the scan's median by 6 standard deviations. Around a feature in
        a scan of little else, patterns that are not fitted yet lie together; broken ones lie among others. A
        weight falls no faster than the error rises, so that whatever can be fitted is, in the end.

        Parameters
        ----------
        errors
            (M,) error of each pattern, in counts.
        """
        relative = errors / self._scale
        median = float(np.median(relative))
        deviation = NORMAL * float(np.median(np.abs(relative - median)))
        limit = np.maximum(
            _TIMES * np.median(relative[self._around], axis=1),
            max(_TIMES * median, median + _DEVIATIONS * deviation),
        )
        weights = np.ones(len(relative))
        np.divide(limit, relative, out=weights, where=relative > limit)
        return weights


def tell_of_misfits(weights: NDArray[np.float64]) -> None:
    """Name the patterns that hardly count in the log."""
    (found,) = np.nonzero(weights < _LEFT_OUT)
    if not len(found):
        return
    names = ", ".join(str(number) for number in found[:_NAMED])
    logger.warning(
        "%d of %d patterns fit far worse than the rest, and hardly count in the refinement: numbers %s%s "
        "(from 0). They may be without beam or broken: look at them. If they are sound, they lie where the "
        "object is not fitted yet, as at an edge of the scan or on a lone feature: refine for more epochs.",
        len(found),
        len(weights),
        names,
        ", …" if len(found) > _NAMED else "",
    )
