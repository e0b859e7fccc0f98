"""Several scans for one training: read or made one after another, and what is said of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from ..data.examination import Action, ExaminationError, Finding, Report
from ..data.raw import RawData
from ..files import NoRoomError

_T = TypeVar("_T")

OnScan = Callable[[str, int, int], object]
"""Called with the name of the scan that is looked at, its number from 1, and how many there are."""

OnDamaged = Callable[[str, Exception], object]
"""Called with the name of a scan that is left out, and why."""

_REMEDY = (
    "Mend it, take it away, or have damaged scans left out: PtychoPINNPluginData.SkipDamaged = True "
    "(--skip-damaged on the command line, skip_damaged=True in Python)."
)


def each_scan(
    make: Mapping[str, Callable[[], _T]],
    *,
    on_scan: OnScan | None = None,
    on_damaged: OnDamaged | None = None,
) -> dict[str, _T]:
    """What each function makes, by name of the scan; see :func:`one_after_another`."""
    return dict(one_after_another(make, on_scan=on_scan, on_damaged=on_damaged))


def one_after_another(
    make: Mapping[str, Callable[[], _T]],
    *,
    on_scan: OnScan | None = None,
    on_damaged: OnDamaged | None = None,
) -> Iterator[tuple[str, _T]]:
    """Yield names of scans, each with what its function makes, which is not kept here.

    Parameters
    ----------
    make
        For each scan a function that raises ``ValueError`` or ``OSError`` if the scan is damaged.
    on_scan
        Is told of each scan before it is made.
    on_damaged
        Is told of each scan that is damaged; those are left out. If it is None, none is.

    Raises
    ------
    ValueError
        In the end, if scans are damaged and may not be left out, or all are; the message names each. An
        :class:`.ExaminationError` if one was refused by the examination.
    NoRoomError
        If there is no room for a scan.
    Exception
        Whatever is raised for the scan, if there is only one.
    """
    if len(make) == 1:
        for name, function in make.items():
            yield name, function()
        return
    damaged: dict[str, Exception] = {}
    for number, (name, function) in enumerate(make.items(), start=1):
        if on_scan is not None:
            on_scan(name, number, len(make))
        try:
            made = function()
        except NoRoomError:  # nothing is wrong with the scan
            raise
        except (ValueError, OSError) as exc:
            damaged[name] = exc
        else:
            yield name, made
            del made  # before the next one is made
    if damaged and (on_damaged is None or len(damaged) == len(make)):
        raise _refusal(damaged, len(make))
    if on_damaged is not None:
        for name, reason in damaged.items():
            on_damaged(name, reason)


def left_out(name: str, exc: Exception) -> Finding:
    """The finding on a scan that is left out."""
    return Finding(
        "scan-left-out",
        "detector",
        Action.IGNORED,
        f"The scan {name} cannot be learnt from: {exc}",
        "It is left out.",
        "PtychoPINNPluginData.SkipDamaged",
        {"scan": name},
    )


def _refusal(damaged: Mapping[str, Exception], count: int) -> ValueError:
    reasons = [str(exc) if name in str(exc) else f"{name}: {exc}" for name, exc in damaged.items()]
    text = f"{len(damaged)} of {count} scans cannot be learnt from. {' '.join(reasons)} {_REMEDY}"
    refused = [exc.report for exc in damaged.values() if isinstance(exc, ExaminationError)]
    return ExaminationError(text, sum(refused, Report())) if refused else ValueError(text)


def require_one_size(scans: Mapping[str, RawData]) -> None:
    """Raise ``ValueError`` unless all scans have patterns of one size; the message names two that differ."""
    first, *others = scans
    for other in others:
        if scans[other].N != scans[first].N:
            raise ValueError(
                f"{first} holds patterns of {scans[first].N} × {scans[first].N} pixels and {other} of "
                f"{scans[other].N} × {scans[other].N}: one model cannot learn from both. Keep one size in "
                "the directory."
            )
