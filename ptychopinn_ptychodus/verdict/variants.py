"""Other ways to read a scan: orientations of the patterns and of the positions, frames that lag, centres."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PATTERNS = {
    (True, False, False): "flipped left to right",
    (False, True, False): "flipped top to bottom",
    (True, True, False): "turned by 180 degrees (flipped both ways)",
    (False, False, True): "transposed",
    (True, False, True): "flipped left to right and then transposed (a quarter turn counter-clockwise)",
    (False, True, True): "flipped top to bottom and then transposed (a quarter turn clockwise)",
    (True, True, True): "flipped both ways and then transposed",
}
_POSITIONS = {
    (True, False, False): "x inverted",
    (False, True, False): "y inverted",
    (True, True, False): "x and y inverted",
    (False, False, True): "x and y exchanged",
    (True, False, True): "x inverted, and then x and y exchanged",
    (False, True, True): "y inverted, and then x and y exchanged",
    (True, True, True): "x and y inverted and exchanged",
}
Steps = tuple[bool, bool, bool]
"""What to do along x (columns), along y (rows), and whether to exchange the two after that."""

_NOTHING: Steps = (False, False, False)


@dataclass(frozen=True)
class Variant:
    """One way to read a scan, by what is done to it.

    Attributes
    ----------
    patterns
        Flip the patterns along x, along y, and transpose them, in this order, which is Ptychodus'.
    positions
        Invert x, y, and exchange the two, in this order.
    lag
        Position ``k + lag`` is taken for pattern ``k``.
    centre
        Pixels [x, y] by which the patterns are moved, cyclically.
    scale
        Factor of the positions.
    """

    patterns: Steps = _NOTHING
    positions: Steps = _NOTHING
    lag: int = 0
    centre: tuple[int, int] = (0, 0)
    scale: float = 1.0

    def applied_to_patterns(self, amplitude: NDArray[Any]) -> NDArray[Any]:
        """(..., N, N) patterns; the zero frequency stays at (N/2, N/2) where they are flipped."""
        out = np.roll(amplitude, self.centre, (-1, -2))
        for axis, flip in zip((-1, -2), self.patterns[:2], strict=True):
            if flip:
                out = np.roll(np.flip(out, axis), 1, axis)
        return out.swapaxes(-1, -2) if self.patterns[2] else out

    def applied_to_positions(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 2) [x, y], about zero; without the lag."""
        signs = np.where(self.positions[:2], -1.0, 1.0)
        out = positions * signs * self.scale
        return out[:, ::-1] if self.positions[2] else out

    @property
    def turns_patterns(self) -> bool:
        """Whether it flips or transposes the patterns."""
        return self.patterns != _NOTHING

    @property
    def turns_positions(self) -> bool:
        """Whether it inverts or exchanges the axes of the positions."""
        return self.positions != _NOTHING

    @property
    def is_half_turn(self) -> bool:
        """Whether it turns one of the two by 180 degrees: the conjugate of probe and object does so, too."""
        return (True, True, False) in (self.patterns, self.positions)

    @property
    def name(self) -> str:
        """What is different, as the end of a sentence that begins with "the patterns fit"."""
        parts = []
        if self.turns_patterns:
            parts.append(f"when they are {_PATTERNS[self.patterns]}")
        if self.turns_positions:
            parts.append(f"when the positions have {_POSITIONS[self.positions]}")
        if self.lag:
            parts.append(f"with the position {'before' if self.lag < 0 else 'after'} their own")
        if any(self.centre):
            parts.append("when they are moved by half their size, so that the corner comes to the middle")
        if self.scale != 1:
            parts.append(f"with the distances of the positions multiplied by about {self.scale:g}")
        return " and ".join(parts) or "as they are"

    @property
    def switches(self) -> str:
        """Ptychodus' switches that turn the patterns so."""
        names = ("Flip Horizontal", "Flip Vertical", "Transpose")
        return ", ".join(name for name, on in zip(names, self.patterns, strict=True) if on)

    @property
    def counterpart(self) -> Variant | None:
        """The variant that does to the positions what this one does to the patterns, or the reverse.

        Whether patterns are turned one way, or positions the other way, differs only by the orientation of
        the object and of the probe: with a probe that is alike in both orientations, the two fit alike.
        """
        steps = self.patterns if self.patterns != _NOTHING else self.positions
        if steps == _NOTHING:
            return None
        inverse = (steps[1], steps[0], True) if steps[2] else steps
        if self.patterns != _NOTHING:
            return replace(self, patterns=_NOTHING, positions=inverse)
        return replace(self, patterns=inverse, positions=_NOTHING)


AS_IT_IS = Variant()


def orientations() -> list[Variant]:
    """The seven other orientations of the patterns."""
    flags = (False, True)
    steps: list[Steps] = [(x, y, both) for x, y, both in product(flags, flags, flags) if x or y or both]
    return [Variant(patterns=found) for found in steps]
