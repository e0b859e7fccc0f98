"""What a live run says of itself, as a file beside its product: whoever looks on needs no more."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..files import process_runs, replacing

if TYPE_CHECKING:  # the window reads what others have written, and need not wait for the rest
    from .state import LiveState

STATUS_FILE = "live.json"
OBJECT_PICTURE = "object.png"
"""Amplitude beside phase of the product."""

OnProgress = Callable[[float, "float | None", int, int], object]
"""Part of the work that is done, 0 to 1; seconds left, None if unknown; epoch of the refinement, and of
how many."""

_EVERY_S = 1.0
_MAYBE_NAN = {"error", "seconds_left"}


class Stage(StrEnum):
    """What a live run does."""

    WAITING = "waiting"
    """For the scan's product, or its first frame."""
    FOLLOWING = "following"
    COMPLETING = "completing"
    """There are no more frames: all are reconstructed together."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class LiveStatus:
    """How a live run stands, for others than its own process.

    Attributes
    ----------
    stage
        What it does.
    says
        The same for people: what it waits for, why it has ended, what went wrong.
    in_object, lag, lag_s, frames_per_second, error, notes
        See :class:`.LiveState`; error in the same scale, NaN before there is one.
    promised
        Frames that there will be; None: nobody has said so.
    scan
        Standard directory of the frames, as soon as it holds all of them; empty before.
    progress, seconds_left
        Of the reconstruction of all frames together: from 0 to 1, and NaN as long as nobody can tell.
    epoch, epochs
        Of its refinement; 0 before that has begun.
    process, host
        Number and machine of the process that reconstructs.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     LiveStatus(Stage.FOLLOWING, "frames come", in_object=12).save(Path(directory))
    ...     LiveStatus.load(Path(directory)).in_object
    12
    """

    stage: Stage
    says: str
    in_object: int = 0
    promised: int | None = None
    lag: int = 0
    lag_s: float = 0.0
    frames_per_second: float = 0.0
    error: float = math.nan
    notes: tuple[str, ...] = ()
    scan: str = ""
    progress: float = 0.0
    seconds_left: float = math.nan
    epoch: int = 0
    epochs: int = 0
    process: int = dataclasses.field(default_factory=os.getpid)
    host: str = dataclasses.field(default_factory=socket.gethostname)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to come, by its own word."""
        return self.stage in (Stage.DONE, Stage.FAILED)

    @property
    def is_orphaned(self) -> bool:
        """Whether its process has ended without a word; of another machine's, nobody here knows."""
        return not self.is_over and self.host == socket.gethostname() and not process_runs(self.process)

    def save(self, directory: Path) -> None:
        """Replace the status of the run that leaves its product in ``directory``.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        values: dict[str, Any] = dataclasses.asdict(self)
        for name in _MAYBE_NAN:  # which JSON has not
            values[name] = values[name] if math.isfinite(values[name]) else None
        with replacing(directory / STATUS_FILE) as file:
            file.write(json.dumps(values, indent=1).encode())

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the status of the run that leaves its product in ``directory``.

        Raises
        ------
        OSError
            If there is none, or it cannot be read.
        ValueError
            If it is no status, or one of a newer version; the message names the file.
        """
        path = directory / STATUS_FILE
        text = path.read_text(encoding="utf-8")
        try:
            values = json.loads(text)
            values["stage"] = Stage(values["stage"])
            for name in _MAYBE_NAN & values.keys():  # older versions have fewer of them
                values[name] = math.nan if values[name] is None else float(values[name])
            values["notes"] = tuple(values["notes"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as exc:
            raise ValueError(
                f'"{path}" is not the status of a live run, or of a newer version ({exc}): choose the '
                "directory of a live run's result, or that of a scan."
            ) from exc


class StatusFile:
    """The status of this process's live run, which is replaced as the run goes on.

    Parameters
    ----------
    directory
        That of the product, which is there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._status = LiveStatus(Stage.WAITING, "")
        self._next = 0.0

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Within the block the run goes on; one that raises leaves the status that it has failed, and why."""
        try:
            yield
        except BaseException as exc:
            says = "interrupted" if isinstance(exc, KeyboardInterrupt) else str(exc) or type(exc).__name__
            with contextlib.suppress(OSError):  # what is raised is what there is to say
                self.tell(Stage.FAILED, says)
            raise

    def tell(self, stage: Stage, says: str, *, scan: str = "", warnings: Sequence[str] = ()) -> None:
        """Say what the run does now, the numbers being those so far; ``OSError`` if it cannot be written.

        Parameters
        ----------
        stage, says, scan
            See :class:`LiveStatus`; without a directory, it is the one so far.
        warnings
            Come before the notes so far.
        """
        scan = scan or self._status.scan
        notes = (*warnings, *(note for note in self._status.notes if note not in warnings))
        self._replace(dataclasses.replace(self._status, stage=stage, says=says, scan=scan, notes=notes))

    def show_progress(self, progress: float, seconds_left: float | None, epoch: int, epochs: int) -> None:
        """Say how far the reconstruction of all frames is, about every second.

        Parameters
        ----------
        progress, seconds_left, epoch, epochs
            See :class:`LiveStatus`; None: nobody can tell.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if not self._is_due():
            return
        left = math.nan if seconds_left is None else round(seconds_left, 1)
        newest = {"progress": round(progress, 3), "seconds_left": left, "epoch": epoch, "epochs": epochs}
        self._replace(dataclasses.replace(self._status, **newest))  # type: ignore[arg-type]

    def show(self, state: LiveState, promised: int | None, *, at_once: bool = False) -> None:
        """Say how far the run is that follows its frames, about every second or ``at_once``.

        Parameters
        ----------
        state
            How the reconstruction stands.
        promised
            Frames that there will be; None: nobody has said so.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if not self._is_due() and not at_once:
            return
        numbers = ("in_object", "lag", "lag_s", "frames_per_second", "error", "notes")
        self._replace(
            LiveStatus(
                Stage.FOLLOWING,
                "frames come",
                promised=promised,
                **{name: getattr(state, name) for name in numbers},
            )
        )

    def telling_progress(self, say: Callable[[str], object]) -> OnProgress:
        """:meth:`show_progress` for a run whose result does not depend on who looks on.

        ``say`` is given the reason, once, if it cannot be written.
        """
        said = ""

        def tell(progress: float, seconds_left: float | None, epoch: int, epochs: int) -> None:
            nonlocal said
            try:
                self.show_progress(progress, seconds_left, epoch, epochs)
            except OSError as exc:
                if str(exc) != said:
                    said = str(exc)
                    say(f"How far the reconstruction is cannot be written: {exc}")

        return tell

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _EVERY_S
        return True

    def _replace(self, status: LiveStatus) -> None:
        if repr(status) != repr(self._status):  # NaN is not NaN
            self._status = status
            status.save(self._directory)
