"""The frames of a scan as they come: lost, doubled, out of order, damaged, or before their positions.

Nothing of this ends a run, and nothing is dropped silently: each frame that does not take part is counted,
with the reason, and :meth:`Frames.sentences` says it in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.examination.findings import Finding
from ..data.examination.pattern_values import find_domain
from ..data.examination.statistics import far_field, read_patterns
from ..data.raw import DOMAINS
from ..formatting import counted

_NAMED = 4
"""Frames that a sentence names at most."""

VALUES_AFTER = (64, 256)
"""Sound frames after which it is looked whether they hold what they are said to."""


@dataclass(frozen=True)
class FrameCounts:
    """How many frames became what.

    Attributes
    ----------
    taken
        Sound ones, each counted once.
    waiting
        Those of them that have no position yet.
    doubled
        Frames whose number had been taken already; the first one counts.
    damaged
        Numbers of which only damaged frames came.
    refused_positions
        Positions that were not finite, or so far off that no object could hold them.
    missing
        Numbers between the lowest and the highest one of which no frame came.
    """

    taken: int = 0
    waiting: int = 0
    doubled: int = 0
    damaged: int = 0
    refused_positions: int = 0
    missing: int = 0


class Frames:
    """Patterns and positions by the numbers of their frames.

    Parameters
    ----------
    size
        N, the edge of a pattern, pixels.
    bad_pixels
        (N, N) bool, where values are of no account.
    domain
        What patterns hold: ``"counts"`` or ``"amplitude"``.
    """

    def __init__(
        self, size: int, bad_pixels: NDArray[np.bool_] | None = None, domain: str = "counts"
    ) -> None:
        if domain not in DOMAINS:
            raise ValueError(f"domain = {domain!r} is not valid: use 'counts' or 'amplitude'.")
        self._size = size
        self.bad_pixels = np.zeros((size, size), np.bool_) if bad_pixels is None else bad_pixels
        self.domain = domain
        self._good = None if not self.bad_pixels.any() else ~self.bad_pixels
        self._patterns: dict[int, NDArray[np.number]] = {}
        self._positions: dict[int, tuple[float, float]] = {}
        self._ready: list[int] = []
        self._damaged: dict[int, str] = {}
        self._doubled: list[int] = []
        self._refused: dict[int, str] = {}
        self._placed = 0
        self._looks = list(VALUES_AFTER)
        self._lowest: int | None = None
        self._highest = -1

    def __len__(self) -> int:
        """How many sound frames there are."""
        return len(self._patterns)

    def add(
        self, numbers: Sequence[int], patterns: Sequence[ArrayLike] | NDArray[np.number]
    ) -> dict[int, NDArray[np.number]]:
        """Take frames, one number each; a damaged frame is refused by its number, and may come again.

        Returns
        -------
        dict
            Those that were taken, by number: sound ones of numbers that are new.
        """
        taken: dict[int, NDArray[np.number]] = {}
        for number, pattern in zip(map(int, numbers), patterns, strict=True):
            self._lowest = number if self._lowest is None else min(self._lowest, number)
            self._highest = max(self._highest, number)
            if number in self._patterns:
                self._doubled.append(number)
                continue
            array = np.asarray(pattern)
            damage = self._damage(array)
            if damage:
                self._damaged[number] = damage
                continue
            self._damaged.pop(number, None)
            self._patterns[number] = taken[number] = array
            if number in self._positions:
                self._place(number)
        return taken

    def place(self, numbers: Sequence[int], positions: ArrayLike) -> None:
        """Take positions, (B, 2) [x, y]; a frame's first one counts, and may come before the frame."""
        for number, (x, y) in zip(map(int, numbers), np.asarray(positions, np.float64), strict=True):
            if number in self._positions:
                continue
            if not (np.isfinite(x) and np.isfinite(y)):
                self.refuse_position(number, "it is not finite")
                continue
            self._refused.pop(number, None)
            self._positions[number] = (float(x), float(y))
            if number in self._patterns:
                self._place(number)

    def refuse_position(self, number: int, reason: str) -> None:
        """A position is of no use; its frame waits for another one."""
        if self._positions.pop(number, None) is not None and number in self._patterns:
            self._placed -= 1
        self._refused[number] = reason

    def take(self, most: int) -> tuple[NDArray[np.int64], list[NDArray[np.number]], NDArray[np.float64]]:
        """Numbers, patterns (N, N) and positions (B, 2) of the next frames that have both, not copied."""
        numbers, self._ready = self._ready[:most], self._ready[most:]
        positions = np.array([self._positions[number] for number in numbers]).reshape(-1, 2)
        return np.array(numbers, np.int64), [self._patterns[number] for number in numbers], positions

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers, ascending, and positions (M, 2) of all frames that have a position."""
        numbers = sorted(self._patterns.keys() & self._positions.keys())
        positions = np.array([self._positions[number] for number in numbers]).reshape(-1, 2)
        return np.array(numbers, np.int64), positions

    def all_placed(self) -> tuple[NDArray[np.int64], NDArray[np.number], NDArray[np.float64]]:
        """The same of all frames that have a position, in the order of their numbers."""
        numbers, positions = self.places()
        if not len(numbers):
            return numbers, np.empty((0, self._size, self._size), np.float32), positions
        return numbers, np.stack([self._patterns[number] for number in numbers.tolist()]), positions

    @property
    def highest(self) -> int:
        """The highest number that came; -1 if none did."""
        return self._highest

    @property
    def ready(self) -> int:
        """How many frames have a position and have not been taken on."""
        return len(self._ready)

    def doubts(self, probe: NDArray[np.complex64]) -> tuple[Finding, ...]:
        """What the examination of the whole scan would find of amplitude that is said to be counts.

        It is looked for after :data:`VALUES_AFTER` frames, spread over those that came, until it is found;
        at any other time there is nothing.

        Parameters
        ----------
        probe
            (modes, N, N), of any scale.
        """
        if not self._looks or len(self._patterns) < self._looks[0]:
            return ()
        while self._looks and len(self._patterns) >= self._looks[0]:
            del self._looks[0]
        every = list(self._patterns)
        patterns = np.stack([self._patterns[number] for number in every[:: len(every) // VALUES_AFTER[0]]])
        good = ~self.bad_pixels
        usual = read_patterns(patterns, good).usual()
        _, findings = find_domain(patterns, usual, good, far_field(probe), self.domain)
        if findings:
            self._looks.clear()
        return tuple(findings)

    @property
    def counts(self) -> FrameCounts:
        """How many frames became what."""
        seen = len(self._patterns) + len(self._damaged)
        span = 0 if self._lowest is None else self._highest - self._lowest + 1
        return FrameCounts(
            taken=len(self._patterns),
            waiting=len(self._patterns) - self._placed,
            doubled=len(self._doubled),
            damaged=len(self._damaged),
            refused_positions=len(self._refused),
            missing=max(span - seen, 0),
        )

    def sentences(self) -> list[str]:
        """What a person has to know of frames that do not take part; empty if all do."""
        counts, said = self.counts, []
        if counts.missing:
            there = self._patterns.keys() | self._damaged.keys()
            first = [n for n in range(self._lowest or 0, self._highest) if n not in there][:_NAMED]
            said.append(f"{_are(counts.missing)} lost: no frame {_named(first, counts.missing)} came.")
        if self._damaged:
            reasons = sorted({*self._damaged.values()})
            listed = _named(list(self._damaged), counts.damaged)
            said.append(f"{_are(counts.damaged)} damaged and left out, {listed}: {'; '.join(reasons)}.")
        if self._doubled:
            listed = _named(sorted({*self._doubled}), len({*self._doubled}))
            said.append(f"{counted(counts.doubled, 'frame')} came again, {listed}: the first of each counts.")
        if self._refused:
            reasons = sorted({*self._refused.values()})
            listed = _named(list(self._refused), counts.refused_positions)
            what = counted(counts.refused_positions, "position")
            said.append(f"{what} cannot be used, of frame {listed}: {'; '.join(reasons)}.")
        if counts.waiting:
            waiting = [number for number in self._patterns if number not in self._positions][:_NAMED]
            said.append(
                f"{counted(counts.waiting, 'frame')} without a position, {_named(waiting, counts.waiting)}: "
                "left out as long as none comes."
            )
        return said

    def _place(self, number: int) -> None:
        self._placed += 1
        self._ready.append(number)

    def _damage(self, pattern: NDArray[np.number]) -> str:
        """What is wrong with a pattern; empty if nothing is."""
        if pattern.shape != (self._size, self._size):
            shape = " × ".join(map(str, pattern.shape)) or "no"
            return f"of {shape} pixels where patterns have {self._size} × {self._size}"
        if pattern.dtype.kind not in "iuf":
            return f"of the type {pattern.dtype}, which is no number"
        if pattern.dtype.kind == "u":
            return ""
        values = pattern if self._good is None else pattern[self._good]
        if pattern.dtype.kind == "f" and not np.isfinite(values).all():
            return "values that are NaN or infinite"
        return "values below 0" if values.min() < 0 else ""


def _are(count: int) -> str:
    return f"{counted(count, 'frame')} {'is' if count == 1 else 'are'}"


def _named(numbers: Iterable[int], count: int) -> str:
    """The first numbers, and how many more there are."""
    shown = list(numbers)[:_NAMED]
    more = count - len(shown)
    return ", ".join(map(str, shown)) + (f" and {more} more" if more > 0 else "")
