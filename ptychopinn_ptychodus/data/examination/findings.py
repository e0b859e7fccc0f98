"""The report of an examination: a list of findings, as text, as JSON, and as an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...files import replacing

SUBJECTS = ("detector", "geometry", "scale", "result", "confidence")


class Action(StrEnum):
    """What was done about a finding."""

    MENDED = "mended"
    """The data were changed, so that they are right now; the finding says how."""
    IGNORED = "ignored"
    """The data were left as they are, and the result may suffer: a warning."""
    NOTED = "noted"
    """The data were left as they are, which is harmless, or changed as a setting asks for: information."""
    REFUSED = "refused"
    """Nothing is computed from such data."""

    @property
    def heading(self) -> str:
        """How a line about such a finding begins."""
        return "Warning" if self is Action.IGNORED else self.value.capitalize()


@dataclass(frozen=True)
class Finding:
    """One thing that was found in a scan.

    Attributes
    ----------
    code
        Name of the kind, in lower case with hyphens, such as ``"stuck-pixels"``: for programs, and stable.
    subject
        One of :data:`SUBJECTS`.
    action
        What was done about it.
    seen
        What was seen, and where: one or two full sentences with the values.
    done
        What was done about it, or what to do: full sentences.
    setting
        ``Group.Name`` of the setting that decides otherwise; empty if there is none.
    values
        The figures of ``seen`` for programs: JSON numbers, texts, and lists of them.
    """

    code: str
    subject: str
    action: Action
    seen: str
    done: str
    setting: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.subject not in SUBJECTS:
            raise ValueError(f"Finding.subject = {self.subject!r} is not valid: use one of {SUBJECTS}.")
        object.__setattr__(self, "action", Action(self.action))

    @property
    def text(self) -> str:
        """What was seen, what was done, and the setting that decides otherwise, on one line."""
        otherwise = f" ({self.setting} decides otherwise.)" if self.setting else ""
        return f"{self.seen} {self.done}{otherwise}"

    @property
    def is_warning(self) -> bool:
        """Whether a person must not miss it: all but what was noted."""
        return self.action is not Action.NOTED


class ExaminationError(ValueError):
    """A scan from which nothing is computed; :attr:`report` has the findings, the refused one among them."""

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = Report() if report is None else report


@dataclass(frozen=True)
class Report:
    """All findings of one scan, in the order in which they were made.

    Examples
    --------
    >>> dead = Finding("dead-pixels", "detector", "mended", "3 pixels count nothing.", "They are masked.")
    >>> report = Report() + Report((dead,))
    >>> print(report.lines()[0])
    Mended: 3 pixels count nothing. They are masked.
    >>> Report.from_json(report.to_json()) == report
    True
    """

    findings: tuple[Finding, ...] = ()

    def __add__(self, other: Report) -> Report:
        """Both, each finding once."""
        return Report((*self.findings, *(one for one in other.findings if one not in self.findings)))

    def __bool__(self) -> bool:
        return bool(self.findings)

    def lines(self, *, warnings_only: bool = False) -> list[str]:
        """One line a finding, which begins with what was done, or with "Warning"."""
        return [
            f"{finding.action.heading}: {finding.text}"
            for finding in self.findings
            if finding.is_warning or not warnings_only
        ]

    def log(self, logger: logging.Logger, source: str = "") -> None:
        """Log each finding, warnings as such, after ``source`` (a file, say) where it is given.

        What was refused is left out: it is an error, and logged as one by whoever catches it.
        """
        for finding in self.findings:
            if finding.action is not Action.REFUSED:
                level = logging.WARNING if finding.is_warning else logging.INFO
                logger.log(level, "%s%s", f"{source}: " if source else "", finding.text)

    @property
    def is_doubtful(self) -> bool:
        """Whether a result does not explain the patterns as well as it should."""
        return any(finding.subject == "result" and finding.is_warning for finding in self.findings)

    def by_code(self, code: str) -> Finding | None:
        """The first finding of a kind, or None."""
        return next((finding for finding in self.findings if finding.code == code), None)

    def require_accepted(self) -> None:
        """Raise :class:`ExaminationError` if a finding says that the scan is refused."""
        refused = [finding.text for finding in self.findings if finding.action is Action.REFUSED]
        if refused:
            raise ExaminationError(" ".join(refused), self)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain dictionaries, one a finding."""
        return [{**asdict(finding), "action": finding.action.value} for finding in self.findings]

    @classmethod
    def from_json(cls, values: Iterable[Mapping[str, Any]]) -> Report:
        """Inverse of :meth:`to_json`."""
        return cls(tuple(Finding(**value) for value in values))

    def save(self, path: Path) -> None:
        """Write the JSON file ``path``: ``{"findings": [...]}``."""
        with replacing(path) as file:
            file.write(json.dumps({"findings": self.to_json()}, indent=2).encode("utf-8"))

    @classmethod
    def load(cls, path: Path) -> Report:
        """Inverse of :meth:`save`."""
        return cls.from_json(json.loads(path.read_text(encoding="utf-8"))["findings"])
