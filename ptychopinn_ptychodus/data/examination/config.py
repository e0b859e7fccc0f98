"""What a user may decide about the examination of scans."""

from __future__ import annotations

from dataclasses import dataclass

from ...validation import flags, one_of, pattern_size

PATTERN_VALUES = ("auto", "counts", "amplitude")


@dataclass(frozen=True)
class ExaminationConfig:
    """What is done to a scan before it is used: its size, which faults are looked for, and what about them.

    Attributes
    ----------
    pattern_size
        N, pixels, to which patterns of another size are cropped or padded around the zero frequency, with
        probe, object and positions on the pixels of that size; what is added counts as bad pixels. None: they
        are used as they are, and refused where they are not square or of a size that there is not.
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
    confidence
        After a reconstruction, find out which parts of the object halves of the scan confirm, and down to
        which resolution: a map of confidence.
    """

    pattern_size: int | None = None
    pattern_values: str = "auto"
    mask_pixels: bool = True
    centre_patterns: bool = True
    refuse: bool = True
    judge: bool = True
    confidence: bool = True

    def __post_init__(self) -> None:
        if self.pattern_size is not None:
            pattern_size(self, "pattern_size")
        one_of(self, "pattern_values", PATTERN_VALUES)
        flags(self, "mask_pixels", "centre_patterns", "refuse", "judge", "confidence")
