"""Progress with time left: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..formatting import duration

LINE_EVERY_S = 10.0


class ProgressDisplay:
    """Shows how far one task is; a context manager.

    Parameters
    ----------
    title
        What is being done.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = Console(file=sys.stderr)
        self._start = time.monotonic()
        self._last_line = self._start
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[note]}", style="dim"),
                console=self._console,
            )
            self._task = self._bar.add_task(title, total=1.0, left="", note="")

    @property
    def console(self) -> Console:
        """Where log entries must go not to disturb the bar."""
        return self._console

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, fraction: float, seconds_left: float | None, note: str = "") -> None:
        """Show ``fraction`` (0 to 1) of the work as done; ``seconds_left`` is None where not known yet."""
        left = "" if fraction >= 1 else ("" if seconds_left is None else f"{duration(seconds_left)} left")
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, left=left, note=note)
            return
        text = "  ".join(part for part in (f"{self._title}: {int(100 * fraction):3d} %", note, left) if part)
        now = time.monotonic()
        if fraction >= 1 or now - self._last_line >= LINE_EVERY_S:
            self._print(text)

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        print(text, file=sys.stderr, flush=True)


class TimeLeft:
    """Extrapolates from the steps after the first one, which includes starting up."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None

    def at(self, fraction: float) -> float | None:
        """Seconds left when ``fraction`` (0 to 1) is done; None as long as there is one step at most."""
        now = time.monotonic()
        if fraction <= 0:
            return None
        if self._last is None or fraction > self._last[0]:
            self._last = (fraction, now)
            self._first = self._first or self._last
        assert self._first is not None
        done, since = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if done <= 0:
            return None
        return max(0.0, since / done * (1 - self._last[0]) - (now - self._last[1]))
