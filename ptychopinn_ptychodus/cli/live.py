"""``live``: follow a scan while it is recorded, and reconstruct it as a whole in the end."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.raw import RawData
from ..formatting import counted
from ..live.networks import NetworkProcess
from ..live.session import LiveReconstruction
from ..live.state import LiveState
from ..live.status import LiveStatus, Stage, StatusFile
from ..ptychodus_io.growing_files import (
    FrameSource,
    GrowingDiffraction,
    GrowingPositions,
    has_frames,
    source_in,
)
from ..ptychodus_io.live_products import SCAN_DIRECTORY, ProductTemplate
from ..ptychodus_io.names import DIFFRACTION_FILE, KEYS, PRODUCT_FILE, product_in
from ..worker.live_files import LiveFiles
from .commands import (
    PICTURES,
    input_directory,
    model_for,
    open_session_for,
    reconstruct_in,
    require_writable_directory,
)
from .errors import DOUBTFUL, INTERRUPTED, SUCCESS, CommandError, UsageError
from .progress import ProgressDisplay
from .report import REPORT_FILE, forget_report
from .session import Session

_T = TypeVar("_T")

_POLL_S = 0.1
_ENDS = {
    SUCCESS: "reconstructed",
    DOUBTFUL: "reconstructed; the result does not explain the patterns as well as it should",
    INTERRUPTED: "interrupted before all were reconstructed together; the product is the live one",
}


def live(arguments: argparse.Namespace) -> int:
    """Reconstruct a scan while it is recorded; see ``ptychopinn-ptychodus live --help``."""
    source, target = input_directory(arguments.input), arguments.output.absolute()
    if source == target:
        raise UsageError("The output is the directory of the scan itself: name another with -o.")
    with open_session_for(arguments, algorithms=tuple(KEYS)) as app:
        _require_patterns_as_they_are(app)
        model = model_for(app, source, arguments.model)
        require_writable_directory(target)
        _say_what_is_there(source, target)
        status = StatusFile(target)
        with status.telling(), _Signals() as signals:
            status.tell(Stage.WAITING, "starting")  # what is there may be of an earlier run
            follower = _Follower(app, source, target, status, model, arguments.timeout, signals)
            directory = follower.follow()
            status.tell(Stage.COMPLETING, follower.says, scan=str(directory))
            code = INTERRUPTED
            if not signals.interrupt():
                code = reconstruct_in(
                    app,
                    directory,
                    model,
                    target,
                    strict=arguments.strict,
                    on_progress=status.telling_progress(lambda said: print(said, file=sys.stderr)),
                    keeps_product=True,  # the live one, which is of all frames, too
                )
            status.tell(Stage.DONE, _ENDS[code])
        return code


def _say_what_is_there(source: Path, target: Path) -> None:
    """Say what becomes of an earlier run whose process was killed: its frames are where they came from."""
    try:
        earlier = LiveStatus.load(target)
    except (OSError, ValueError):
        return
    if earlier.is_orphaned:
        print(
            f'An earlier run in "{target}" ended without a word, with '
            f'{counted(earlier.in_object, "frame")} in its object. Frames are in "{source}", and nothing of '
            "them is lost: all that are there are read again."
        )


def _require_patterns_as_they_are(app: Session) -> None:
    """Refuse a setting that would make the last reconstruction one of other patterns than were shown."""
    size = str(app.settings_read.get("PtychoPINNPluginData", {}).get("PatternSize", "0"))
    if size != "0":
        raise UsageError(
            f"PtychoPINNPluginData.PatternSize = {size} is set, and a scan is followed with its patterns as "
            "they are: set it to 0, or crop or pad them where they are recorded."
        )


class _Signals:
    """Ctrl-C and SIGTERM: the first ends the scan, a further one its reconstruction; a context manager."""

    def __init__(self) -> None:
        self._came = 0
        self._before: dict[int, Any] = {}

    def have_come(self) -> bool:
        """Whether one has."""
        return self._came > 0

    def scan_is_over(self) -> None:
        """From now on, they mean the reconstruction; one that has come meant the scan."""
        self._came = max(self._came - 1, 0)

    def interrupt(self) -> bool:
        """From now on, have one raise ``KeyboardInterrupt``; True if one has come already."""
        for number in self._before:  # Ctrl-C may have been ignored where this was started from
            signal.signal(number, signal.default_int_handler)
        return self.have_come()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came += 1

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Follower:
    """One scan that is followed to its end.

    Parameters
    ----------
    app
        Whose settings say what patterns hold.
    source, target
        Directories of the scan and of the result.
    status
        That of the run, in the latter.
    model
        Makes first objects; None: there is none.
    timeout_s
        Without new frames, after which the scan is over.
    signals
        By which somebody may end it.
    """

    def __init__(
        self,
        app: Session,
        source: Path,
        target: Path,
        status: StatusFile,
        model: Path | None,
        timeout_s: float,
        signals: _Signals,
    ) -> None:
        self._source, self._target, self._timeout_s = source, target, timeout_s
        self._status, self._signals = status, signals
        values = app.settings_read.get("PtychoPINNPluginExamination", {}).get("PatternValues", "auto")
        self._domain = "amplitude" if values == "amplitude" else "counts"
        self._model = model
        self._template: ProductTemplate
        self._files: LiveFiles
        self._ended_because = ""

    @property
    def says(self) -> str:
        """What happens after the last frame, and why it was that."""
        return f"all are reconstructed together: {self._ended_because}"

    def follow(self) -> Path:
        """Follow the scan to its end; the standard directory to be reconstructed."""
        with ProgressDisplay("live") as display:
            self._template = self._wait_for_template(display)
            product = self._target / PRODUCT_FILE
            picture = self._target / PICTURES[PRODUCT_FILE]
            self._files = LiveFiles(self._template, product, picture, "ptychopinn-ptychodus")
            frames = self._wait_for_frames(display)
            bad = frames.bad_pixels() if isinstance(frames, GrowingDiffraction) else None
            network = None if self._model is None else NetworkProcess(self._model)
            with LiveReconstruction(
                self._template.probe,
                _unchanged,
                bad_pixels=bad,
                domain=self._domain,
                network=network,
            ) as running:
                self._watch(running, frames, display)
                rest = frames.rest()
                if rest is not None:
                    running.add(rest.patterns, numbers=rest.numbers)
                state = running.drain()
                # all there is, should what follows be stopped or fail
                self._files.show(running, at_once=True)
                self._status.show(state, frames.promised, at_once=True)
                because = self._ended_because
                self._signals.scan_is_over()
                self._status.tell(Stage.COMPLETING, self.says)
                display.update(1.0, None, f"{state.line()}: {because}")
                for note in (*state.notes, *frames.notes()):
                    print(note)
                return self._directory(running, frames, state)

    # ------------------------------------------------------------------ what comes

    def _wait_for_template(self, display: ProgressDisplay) -> ProductTemplate:
        problem: list[str] = []

        def read() -> ProductTemplate | None:
            path = product_in(self._source)
            if not path.is_file():
                return None
            try:
                return ProductTemplate.read(path)
            except ValueError as exc:
                problem[:] = [str(exc)]
                return None

        found = self._wait(read, "waiting for product.h5", display)
        if found is None:
            missing = f'There is no {PRODUCT_FILE} in "{self._source}": probe and pixel size come from it.'
            raise UsageError(problem[0] if problem else missing)
        return found

    def _wait_for_frames(self, display: ProgressDisplay) -> FrameSource:
        def look() -> FrameSource | None:
            return source_in(self._source) if has_frames(self._source) else None

        found = self._wait(look, "waiting for the first frame", display)
        if found is None:
            raise UsageError(
                f'No frame came to "{self._source}" within {self._timeout_s:g} s: neither {DIFFRACTION_FILE} '
                "nor files of frames. Name the directory that is written to with -i, or wait for longer with "
                "--timeout."
            )
        return found

    def _wait(self, look: Callable[[], _T | None], what: str, display: ProgressDisplay) -> _T | None:
        until = time.monotonic() + self._timeout_s
        while True:
            found = look()
            if found is not None:
                return found
            if self._signals.have_come():
                raise KeyboardInterrupt
            self._status.tell(Stage.WAITING, what)
            if time.monotonic() > until:
                return None
            display.update(0.0, None, what)
            time.sleep(_POLL_S)

    def _watch(
        self, running: LiveReconstruction[RawData], frames: FrameSource, display: ProgressDisplay
    ) -> None:
        """Hand over frames and positions as they come, and show the object, until the scan is over."""
        places = GrowingPositions(self._source)
        newest = time.monotonic()
        came = 0
        while not self._ended_because:
            positions = places.read()
            if positions is not None and len(positions[0]):
                newest = time.monotonic()
                running.place(positions[0], self._template.pixels(positions[1]))
            chunk = frames.read()
            if chunk is not None:
                running.add(chunk.patterns, numbers=chunk.numbers)
                came += len(chunk.numbers)
                newest = time.monotonic()
            state = running.state
            self._show(running, state, frames.promised, display)
            if self._signals.have_come():
                self._ended_because = "ended from outside"
            elif frames.promised is not None and came >= frames.promised and not state.counts.waiting:
                if state.counts.taken + state.counts.damaged + state.counts.doubled >= came:
                    self._ended_because = "the last frame is there"
            elif chunk is None and time.monotonic() - newest > self._timeout_s:
                self._ended_because = f"no frame came for {self._timeout_s:g} s"
            if chunk is None and not self._ended_because:
                time.sleep(_POLL_S)

    # ------------------------------------------------------------------ what is shown and left

    def _show(
        self,
        running: LiveReconstruction[RawData],
        state: LiveState,
        promised: int | None,
        display: ProgressDisplay,
    ) -> None:
        done = min(state.in_object / promised, 0.999) if promised else 0.0
        display.update(done, None, state.line())
        if state.in_object and not self._files.are_there:  # the page of an earlier result is not of this one
            forget_report(self._target / REPORT_FILE)
        is_new = self._files.show(running)
        # after the product that has these frames
        self._status.show(running.state if is_new else state, promised, at_once=is_new)

    def _directory(self, running: LiveReconstruction[RawData], frames: FrameSource, state: LiveState) -> Path:
        """The scan's own directory where it holds just the frames that were taken, or one of our own."""
        numbers, positions = running.placed()
        if not len(numbers):
            raise CommandError(
                f'There is no frame with a position in "{self._source}": there is nothing to reconstruct. '
                f"Positions are looked for in {PRODUCT_FILE} and positions.csv."
            )
        # photons of each position have come since; the geometry is the one that positions were taken by
        newest = dataclasses.replace(self._template, values=self._newest_values())
        counts = state.counts
        is_whole = frames.promised == len(numbers) and not (counts.damaged or counts.doubled)
        if isinstance(frames, GrowingDiffraction) and is_whole and _fits(newest, numbers, positions):
            return self._source
        directory = self._target / SCAN_DIRECTORY
        numbers, patterns, positions = running.placed_frames()
        newest.write_directory(
            directory,
            numbers=numbers,
            patterns=patterns,
            positions=positions,
            bad_pixels=running.bad_pixels,
        )
        print(f"The {counted(len(numbers), 'frame')} that are reconstructed: {directory}")
        return directory

    def _newest_values(self) -> Mapping[str, Any]:
        """What the scan's product holds by now."""
        try:
            return ProductTemplate.read(product_in(self._source)).values
        except ValueError:
            return self._template.values


def _fits(product: ProductTemplate, numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> bool:
    """Whether a product has the positions of all frames, and a canvas that holds them."""
    known = product.values.get("probe_position_indexes")
    inside = bool(((positions >= 0) & (positions <= np.array(product.shape[::-1]) - 1)).all())
    return known is not None and set(numbers.tolist()) <= {int(each) for each in known} and inside


def _unchanged(scan: RawData) -> RawData:
    return scan
