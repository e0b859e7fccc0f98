"""What a user may decide about the examination of scans."""

from __future__ import annotations

from dataclasses import dataclass

from ...validation import flags, one_of

PATTERN_VALUES = ("auto", "counts", "amplitude")


@dataclass(frozen=True)
class ExaminationConfig:
    """Which faults are looked for, and what is done about them.

    Attributes
    ----------
    pattern_values
        What the patterns hold: ``"counts"``, ``"amplitude"`` (the square root of counts), or ``"auto"`` to
        find out where the data do not say so.
    mask_pixels
        Mask pixels that cannot have measured anything: those at their type's maximum, not a number or
        negative in every frame, hot and dead ones.
    centre_patterns
        Shift patterns by half their size where that is plainly how they were stored.
    refuse
        Refuse scans that would give a wrong image. If False, a warning takes the place of the refusal,
        wherever something can be computed at all.
    judge
        After a reconstruction, compare its error with what noise alone leaves, and look for a remedy where
        it does not fit.
    """

    pattern_values: str = "auto"
    mask_pixels: bool = True
    centre_patterns: bool = True
    refuse: bool = True
    judge: bool = True

    def __post_init__(self) -> None:
        one_of(self, "pattern_values", PATTERN_VALUES)
        flags(self, "mask_pixels", "centre_patterns", "refuse", "judge")
