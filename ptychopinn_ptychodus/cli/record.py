"""The record of a run: what was asked for, with what it was computed, and how long it took, as JSON.

The result itself knows none of it, and a report that is made later has to say it.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import replacing
from ..installed import PackageNotFoundError, own_version, version

RECONSTRUCTION_RECORD = "reconstruction_record.json"
TRAINING_RECORD = "training_record.json"

_PACKAGES = ("ptychodus", "numpy", "scipy", "torch", "lightning", "tensorflow", "keras")


@dataclass(frozen=True)
class RunRecord:
    """One run of the command line.

    Attributes
    ----------
    command
        ``"train"`` or ``"reconstruct"``.
    algorithm
        Name of the reconstructor.
    source
        The input directory.
    model
        The model file; empty where there is none.
    ended
        Local time, ISO 8601.
    seconds
        How long it took.
    is_complete
        Whether it ran to its end.
    settings
        Values as a settings file has them, by group and name: those that the reconstructor reads.
    versions
        Of this package, Python and what both compute with, by name.
    """

    command: str
    algorithm: str
    source: str
    model: str
    ended: str
    seconds: float
    is_complete: bool
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, started: float, **fields: Any) -> RunRecord:
        """The record of a run that began at ``started`` (:func:`time.monotonic`) and ends now."""
        return cls(
            ended=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            seconds=time.monotonic() - started,
            versions=_versions(),
            **fields,
        )

    def save(self, path: Path) -> None:
        """Write the JSON file ``path``, replaced whole or not at all."""
        with replacing(path) as file:
            file.write(json.dumps(dataclasses.asdict(self), indent=2).encode("utf-8"))

    @classmethod
    def load(cls, path: Path) -> RunRecord | None:
        """Inverse of :meth:`save`; None if there is no such file.

        Raises
        ------
        ValueError
            If it is no record; the message names the file.
        """
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as exc:
            raise ValueError(f'"{path}" is no record of a run: {exc}') from exc


def _versions() -> dict[str, str]:
    found = {"ptychopinn-ptychodus": own_version(), "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an engine that is not there, or a build under another name
            continue
    return found
