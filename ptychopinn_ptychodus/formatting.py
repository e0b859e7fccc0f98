"""Durations and counts as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """As 0:07, 12:30 or 1:02:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(count: int, unit: str) -> str:
    """As "1 epoch" or "5 epochs"."""
    return f"{count} {unit}{'' if count == 1 else 's'}"
