"""Frames that an object has been fitted to, and which of them lie near others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_REACH = 0.5  # patterns' edges around frames from where others are taken


@dataclass
class SeenFrames:
    """The frames that were added, in the order in which they came.

    Attributes
    ----------
    patterns
        (N, N) each, not copied.
    positions
        [x, y] of each, and room for more of them.
    cells
        Numbers of the frames in each square of the size of a pattern.
    """

    patterns: list[NDArray[np.number]] = field(default_factory=list)
    positions: NDArray[np.float64] = field(default_factory=lambda: np.empty((64, 2)))
    cells: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.patterns)

    def add(
        self, patterns: Sequence[NDArray[np.number]], positions: NDArray[np.float64], size: int
    ) -> NDArray[np.int64]:
        """Numbers of the added frames."""
        first, count = self.count, len(patterns)
        while len(self.positions) < first + count:
            self.positions = np.concatenate((self.positions, np.empty_like(self.positions)))
        self.positions[first : first + count] = positions
        self.patterns.extend(patterns)
        for number, (x, y) in enumerate(np.floor(positions / size).astype(int).tolist(), start=first):
            self.cells.setdefault((x, y), []).append(number)
        return np.arange(first, first + count)

    def around(
        self, positions: NDArray[np.float64], size: int, most: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Numbers of some frames near these positions, drawn at random, ``most`` at most."""
        reach = _REACH * size
        low = np.floor((positions.min(0) - reach) / size).astype(int).tolist()
        high = np.floor((positions.max(0) + reach) / size).astype(int).tolist()
        lists = [
            self.cells[x, y]
            for x in range(low[0], high[0] + 1)
            for y in range(low[1], high[1] + 1)
            if (x, y) in self.cells
        ]
        # of a place that was looked at a thousand times, as many as of any other
        chosen = [
            each if len(each) <= most else [each[i] for i in rng.integers(len(each), size=most)]
            for each in lists
        ]
        near = np.unique(np.array([number for each in chosen for number in each], np.int64))
        return near if len(near) <= most else np.sort(rng.choice(near, most, replace=False))
