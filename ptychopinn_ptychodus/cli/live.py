"""``live``: follow a scan while it is recorded, and reconstruct it as a whole in the end."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.display import centred_phase, grey_levels
from ..data.raw import RawData
from ..files import replacing
from ..formatting import counted
from ..live.networks import NetworkProcess
from ..live.session import LiveReconstruction
from ..live.state import LiveState
from ..ptychodus_io.growing_files import (
    FrameSource,
    GrowingDiffraction,
    GrowingPositions,
    has_frames,
    source_in,
)
from ..ptychodus_io.live_products import ProductTemplate
from ..ptychodus_io.names import DIFFRACTION_FILE, KEYS, PRODUCT_FILE, product_in
from .commands import (
    PICTURES,
    input_directory,
    model_for,
    open_session_for,
    reconstruct_in,
    require_writable_directory,
)
from .errors import CommandError, UsageError
from .progress import ProgressDisplay
from .report import REPORT_FILE, forget_report
from .session import Session

SCAN_DIRECTORY = "scan"
"""In the output, for the frames of a scan whose own directory cannot be reconstructed as it is."""

_T = TypeVar("_T")

_POLL_S = 0.1
_SHOW_S = 1.0
_SHARE = 0.1  # of the time, at most, that products and pictures take
_LARGEST_PICTURE_PX = 1024
_GAP_PX = 4


def live(arguments: argparse.Namespace) -> int:
    """Reconstruct a scan while it is recorded; see ``ptychopinn-ptychodus live --help``."""
    source, target = input_directory(arguments.input), arguments.output.absolute()
    if source == target:
        raise UsageError("The output is the directory of the scan itself: name another with -o.")
    with open_session_for(arguments, algorithms=tuple(KEYS)) as app:
        model = model_for(app, source, arguments.model)
        require_writable_directory(target)
        with _ended_by_signals() as is_ended:
            follower = _Follower(app, source, target, model, arguments.timeout, is_ended)
            directory = follower.follow()
        return reconstruct_in(app, directory, model, target, strict=arguments.strict)


@contextmanager
def _ended_by_signals() -> Iterator[Callable[[], bool]]:
    """Within the block, Ctrl-C and SIGTERM end the scan and not the command; whether one has come."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Follower:
    """One scan that is followed to its end.

    Parameters
    ----------
    app
        Whose settings say what patterns hold.
    source, target
        Directories of the scan and of the result.
    model
        Makes first objects; None: there is none.
    timeout_s
        Without new frames, after which the scan is over.
    is_ended
        Whether somebody has ended it.
    """

    def __init__(
        self,
        app: Session,
        source: Path,
        target: Path,
        model: Path | None,
        timeout_s: float,
        is_ended: Callable[[], bool],
    ) -> None:
        self._source, self._target, self._timeout_s, self._is_ended = source, target, timeout_s, is_ended
        values = app.settings_read.get("PtychoPINNPluginExamination", {}).get("PatternValues", "auto")
        self._domain = "amplitude" if values == "amplitude" else "counts"
        self._model = model
        self._template: ProductTemplate
        self._show_next = 0.0
        self._ended_because = ""

    def follow(self) -> Path:
        """Follow the scan to its end; the standard directory to be reconstructed."""
        with ProgressDisplay("live") as display:
            self._template = self._wait_for_template(display)
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
                display.update(1.0, None, f"{state.line()}: {self._ended_because}")
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
            if self._is_ended():
                raise KeyboardInterrupt
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
            if self._is_ended():
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
        begun = time.monotonic()
        if begun < self._show_next or not state.in_object:
            return
        found = running.snapshot()
        numbers, positions = running.placed()
        if self._show_next == 0.0:  # the page of an earlier result is not of this one
            forget_report(self._target / REPORT_FILE)
        self._template.write(
            self._target / PRODUCT_FILE,
            object_=found.object,
            origin=found.origin,
            probe=found.probe,
            numbers=numbers,
            positions=positions,
            comment=f"ptychopinn-ptychodus: live, {counted(state.in_object, 'frame')} so far",
        )
        _draw(found.object, self._target / PICTURES[PRODUCT_FILE])
        now = time.monotonic()
        self._show_next = now + max(_SHOW_S, (now - begun) / _SHARE)

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


def _draw(object_: NDArray[np.complex64], path: Path) -> None:
    """Amplitude beside phase, replaced atomically; far quicker than a figure with axes."""
    from PIL import Image

    step = max(-(-max(object_.shape) // _LARGEST_PICTURE_PX), 1)
    shown = object_[::step, ::step]
    gap = np.full((len(shown), _GAP_PX), 255, np.uint8)
    images = (grey_levels(np.abs(shown)), gap, grey_levels(centred_phase(shown)))
    with replacing(path) as file:
        Image.fromarray(np.concatenate(images, axis=1)).save(file, format="png")
