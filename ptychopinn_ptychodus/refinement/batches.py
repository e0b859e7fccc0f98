"""Batches that are spread evenly over a scan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def spread_batches(
    order: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Deal a scan out into batches, each with a part of every neighbourhood, in random order.

    Compact batches would each pull their own region towards themselves, random ones leave gaps; either takes
    smaller steps.

    Parameters
    ----------
    order
        From :func:`~ptychopinn_ptychodus.data.grouping.neighbourhood_order`.
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
