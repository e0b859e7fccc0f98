"""Batches that are spread evenly over a scan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BITS = 12


def neighbourhood_order(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of (M, 2) positions along a Z-order curve: what is near in it is near in the scan."""
    extent = np.maximum(np.ptp(positions, axis=0).max(), 1e-9)
    cells = ((positions - positions.min(axis=0)) / extent * (2**_BITS - 1)).astype(np.int64)
    key = np.zeros(len(positions), np.int64)
    for bit in range(_BITS):
        key |= ((cells[:, 0] >> bit) & 1) << (2 * bit) | ((cells[:, 1] >> bit) & 1) << (2 * bit + 1)
    return np.argsort(key, kind="stable")


def spread_batches(
    order: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Deal a scan out into batches, each with a part of every neighbourhood, in random order.

    Compact batches would each pull their own region towards themselves, random ones leave gaps; either takes
    smaller steps.

    Parameters
    ----------
    order
        From :func:`neighbourhood_order`.
    count
        Number of batches, no more than there are patterns.
    rng
        Every run of ``count`` neighbours is dealt anew.

    Yields
    ------
    ndarray
        Ascending indices; their sizes differ by one at most.
    """
    rounds = -(-len(order) // count)
    hands = np.concatenate([rng.permutation(count) for _ in range(rounds)])[: len(order)]
    for batch in rng.permutation(count):
        yield np.sort(order[hands == batch])
